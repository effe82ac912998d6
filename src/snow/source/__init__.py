"""The source: the frozen pretrained CNN that feeds every task, with its taps, weights and preprocessing.

Shape letters in this room:
    B     pictures in a batch
    S     side of the square picture in pixels
    N     channels of a feature map
    D     width of the final features, the input of the source's own classifier
    C     classes of the source's own classifier
    H, W  height and width of a map: S divided by the stride of its tap
"""

from snow.source.network import FINAL, LOGITS, global_average
from snow.source.preprocessing import Preprocessing
from snow.source.source import Features, Source
from snow.source.source_file import meta_source
from snow.source.taps import Tap, discover

__all__ = [
    "FINAL",
    "LOGITS",
    "Features",
    "Preprocessing",
    "Source",
    "Tap",
    "discover",
    "global_average",
    "meta_source",
]
