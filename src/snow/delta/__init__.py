"""Deltas: the small trainable network of each task, fed by channels of the frozen source (paper, sections 2.1 and 2.2).

Shape letters in this room:
    B     pictures in a batch
    S     side of the square picture
    N     channels of the source's map at a tap
    K     channels of that map that a delta subscribes to
    D     width of the source's final features, or of the inputs of the low-rank head
    C     classes
    R     directions of the low-rank head
    M     moments read per channel: 2 of a map (mean, standard deviation), 1 of the final features (mean)
    H, W  height and width of a map
    n     labelled pictures that calibrate a delta before training
    V     views of each of them, the first without augmentation
    m     rows of a ridge regression, views of pictures
    I     inputs of a readout
    O     outputs of a ridge regression: classes, or any other targets
"""

from snow.delta.config import SnowConfig
from snow.delta.delta import Delta
from snow.delta.families import FAMILIES, make_plan
from snow.delta.likelihood import BERNOULLI, CATEGORICAL, NORMAL, Likelihood
from snow.delta.plan import DeltaPlan
from snow.delta.readout import Readout, ReadoutShape
from snow.delta.start import Start, find_start

__all__ = [
    "BERNOULLI",
    "CATEGORICAL",
    "FAMILIES",
    "NORMAL",
    "Delta",
    "DeltaPlan",
    "Likelihood",
    "Readout",
    "ReadoutShape",
    "SnowConfig",
    "Start",
    "find_start",
    "make_plan",
]
