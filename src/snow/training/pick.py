"""Choose which pictures to label next: those that a task doubts, spread over what the pictures show."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact
from snow.kinds import NumberKind, TagKind


class Picked(NamedTuple):
    """A picture to label.

    Attributes:
        index: of the picture.
        doubt: of the task about it, 0..1.
    """

    index: int
    doubt: float


def doubts(artifact: Artifact, logits: Tensor) -> Tensor:
    """Compute how much a task doubts its answers: (n, W) -> (n,) in 0..1.

    For classes and grades it is 1 minus the lead of the most probable over the next; for tags it is how close the least
    certain tag is to its threshold.

    Raises:
        SnowError: the task gives numbers, which have no probabilities.
    """
    if isinstance(artifact.labels, NumberKind):
        raise SnowError(f"task {artifact.name} gives numbers, which have no doubt")
    probabilities = artifact.labels.probabilities(logits)
    if isinstance(artifact.labels, TagKind):
        limits = torch.tensor(artifact.labels.thresholds)
        return 1 - ((probabilities - limits).abs() / torch.maximum(limits, 1 - limits)).amin(1)
    best = probabilities.topk(min(2, probabilities.shape[1]), 1).values
    return 1 - (best[:, 0] - best[:, -1])


def pick(doubt: Tensor, final: Tensor, count: int) -> list[Picked]:
    """Pick pictures one after the other: the most doubtful first, then each time the one with the largest

        doubt * distance to the nearest picked picture          (k-centre, Sener & Savarese, ICLR 2018)

    Args:
        doubt: (n,), 0..1.
        final: (n, D), final features of the source.
        count: pictures to pick; all if there are fewer.
    """
    points = torch.nn.functional.normalize(final.float(), dim=1)
    distance = torch.full((len(points),), 2.0)
    open_places = torch.ones(len(points), dtype=torch.bool)
    picked: list[Picked] = []
    for _ in range(min(count, len(points))):
        worth = torch.where(open_places, doubt * distance, -1.0)
        index = int(worth.argmax())
        picked.append(Picked(index, float(doubt[index])))
        open_places[index] = False
        distance = torch.minimum(distance, (points - points[index]).norm(dim=1))
    return picked
