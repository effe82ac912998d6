"""Choose which pictures to label next: one of each group of pictures, in groups that weigh alike in expected errors.

A task that is sure of most pictures has small groups where it is not, so that what it doubts is picked. One that is
sure of none weighs all pictures alike, and typical pictures of each kind are picked. There is no setting between the
two: how sure the task is decides.

Shape letters:
    n     pictures
    D     width of the source's final features
    C     classes
    P     width of the points that are grouped
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact
from snow.kinds import NumberKind, TagKind

MAX_WIDTH = 128
"""Of the points: the directions in which final features vary most."""

SAMPLE = 4096
"""Pictures that these directions are found in, at most."""

CHUNK = 4096
"""Pictures whose distances are computed at a time."""

ITERATIONS = 15
LEAST = 1e-3
"""Expected error that each picture has at least."""


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

    For classes and grades it is the chance that the most probable one is wrong, as the task sees it; for tags it is how
    close the least certain tag is to its threshold.

    Raises:
        SnowError: the task gives numbers, which have no probabilities.
    """
    if isinstance(artifact.labels, NumberKind):
        raise SnowError(f"task {artifact.name} gives numbers, which have no doubt")
    probabilities = artifact.labels.probabilities(logits)
    if isinstance(artifact.labels, TagKind):
        limits = torch.tensor(artifact.labels.thresholds)
        return 1 - ((probabilities - limits).abs() / torch.maximum(limits, 1 - limits)).amin(1)
    return 1 - probabilities.amax(1)


def pick(doubt: Tensor, final: Tensor, count: int, seed: int = 0) -> list[Picked]:
    """Pick the picture in the middle of each of `count` groups, the group with the most expected errors first.

    The groups are those of k-means on final features of unit length, in which each picture weighs as much as the task
    doubts it (Zhdanov, Diverse mini-batch active learning, 2019).

    Args:
        doubt: (n,), 0..1.
        final: (n, D), final features of the source.
        count: pictures to pick; all if there are fewer.
        seed: of the first centres.
    """
    doubt = doubt.float().nan_to_num(1.0)
    if count >= len(doubt):
        order = doubt.argsort(descending=True).tolist()
        return [Picked(index, float(doubt[index])) for index in order]
    points, weights = _points(final), doubt.clamp(min=LEAST)
    centres = _centres(points, weights, count, torch.Generator().manual_seed(seed))
    errors = torch.zeros(count).index_add_(0, _nearest(points, centres), weights)
    picked: list[Picked] = []
    for group in errors.argsort(descending=True).tolist():
        squared = (points - centres[group]).square().sum(1)
        squared[[entry.index for entry in picked]] = torch.inf
        index = int(squared.argmin())
        picked.append(Picked(index, float(doubt[index])))
    return picked


def _points(final: Tensor) -> Tensor:
    """Scale final features to unit length and keep the directions in which they vary most: (n, D) -> (n, P)."""
    unit = torch.nn.functional.normalize(final.float(), dim=1)
    unit = unit - unit.mean(0)
    if unit.shape[1] <= MAX_WIDTH:
        return unit
    rows = unit[torch.linspace(0, len(unit) - 1, min(SAMPLE, len(unit))).round().long()]
    return unit @ torch.linalg.eigh(rows.T @ rows)[1][:, -MAX_WIDTH:]


def _centres(points: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Find the centres of k-means with weights: (n, P), (n,) -> (count, P).

    The first are drawn by k-means++ (Arthur & Vassilvitskii, 2007). A group that is left without pictures keeps its
    centre.
    """
    first = int(torch.multinomial(weights, 1, generator=generator))
    chosen, squared = [first], (points - points[first]).square().sum(1)
    for _ in range(count - 1):
        worth = squared * weights
        chosen.append(int(torch.multinomial(worth if worth.sum() > 0 else weights, 1, generator=generator)))
        squared = torch.minimum(squared, (points - points[chosen[-1]]).square().sum(1))
    centres = points[chosen].clone()
    for _ in range(ITERATIONS):
        group = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, group, points * weights[:, None])
        total = torch.zeros(count).index_add_(0, group, weights)
        centres = torch.where(total[:, None] > 0, sums / total.clamp(min=LEAST)[:, None], centres)
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Find the nearest centre: (n, P), (count, P) -> (n,)."""
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in points.split(CHUNK)])
