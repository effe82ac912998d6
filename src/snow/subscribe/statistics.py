"""What is known of the channels of a map before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

EPSILON = 1e-12
"""Under the root of a deviation, which has no gradient at zero: so small that a deviation scales as its map does."""


@dataclass(frozen=True)
class ChannelStatistics:
    """What some training pictures tell of each of N channels.

    Attributes:
        std: (N,), standard deviation over pictures and places.
        score: (N,), how well the channel tells the classes apart: larger is better, on any scale.
        centre: (2, N), mean over pictures of the channel's `moments`.
        spread: (2, N), their standard deviation over pictures.
        pictures: how many of them have a label.
    """

    std: Tensor
    score: Tensor
    centre: Tensor
    spread: Tensor
    pictures: int

    @classmethod
    def of(cls, maps: Sequence[Tensor], label: Tensor) -> Self:
        """From `moments` of n pictures in parts, each (b, 2, N), and labels (n,), -1 where there is none.

        The score is the F ratio of the spatial means over classes, of the pictures that have a label.
        """
        found = torch.cat(list(maps))
        mean, deviation = found.unbind(1)
        std = (deviation.square().mean(0) - EPSILON + mean.var(0, correction=0)).clamp(min=0).sqrt()
        labelled = int((label >= 0).sum())
        return cls(std, _f_ratio(mean, label), found.mean(0), found.std(0, correction=0), labelled)


def moments(x: Tensor) -> Tensor:
    """(B, N, H, W) -> (B, 2, N): mean and standard deviation over space."""
    mean = x.mean((2, 3))
    distance = x - mean[:, :, None, None]
    square = distance.square() if distance.requires_grad else distance.square_()  # a second map would take its time
    return torch.stack([mean, (square.mean((2, 3)) + EPSILON).sqrt()], 1)


def scaled_moments(x: Tensor, scale: Tensor | None) -> Tensor:
    """`moments` of a map that is to be multiplied by `scale` (N,): found without multiplying the map."""
    found = moments(x)
    return found if scale is None else found * torch.stack([scale, scale.abs()])


def inverse_std(std: Tensor) -> Tensor:
    """(N,): 1 / std, bounded where a channel was nearly silent in the sample: neither is it blown up when it wakes, nor
    the rounding of a pass in lower precision."""
    floor = 0.1 * std.mean()
    return 1 / std.clamp(min=floor) if floor > 1e-12 else torch.ones_like(std)


def _f_ratio(mean: Tensor, label: Tensor) -> Tensor:
    within, between = torch.zeros_like(mean[0]), torch.zeros_like(mean[0])
    mean, label = mean[label >= 0], label[label >= 0]
    for value in label.unique():
        group = mean[label == value]
        within += (group - group.mean(0)).square().sum(0)
        between += len(group) * (group.mean(0) - mean.mean(0)).square()
    return between / within.clamp(min=1e-12)
