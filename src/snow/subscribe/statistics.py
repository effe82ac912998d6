"""Statistics of the channels of a map over some training pictures, and the two moments they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

EPSILON = 1e-12
"""Added to a variance before the root, whose gradient at zero is infinite; small enough for the root to scale with the
map."""


@dataclass(frozen=True)
class ChannelStatistics:
    """What some training pictures say about each of N channels.

    Attributes:
        std: (N,), standard deviation over pictures and space.
        score: (N,), how much the spatial mean says about the labels, see `channel_score`. Only its order is used.
        moment_mean: (2, N), mean over pictures of the channel's `moments`.
        moment_std: (2, N), their standard deviation over pictures.
        labelled: number of pictures with a label.
    """

    std: Tensor
    score: Tensor
    moment_mean: Tensor
    moment_std: Tensor
    labelled: int

    @classmethod
    def from_moments(cls, parts: Sequence[Tensor], label: Tensor) -> Self:
        """Compute the statistics of n pictures.

        Args:
            parts: `moments` of the pictures in batches, each (b, 2, N).
            label: (n,) classes, -1 where there is none, or (n, W) targets, NaN where there is none. Only labelled
                pictures count for the score.
        """
        values = torch.cat(list(parts))
        mean, deviation = values.unbind(1)
        std = (deviation.square().mean(0) - EPSILON + mean.var(0, correction=0)).clamp(min=0).sqrt()
        labelled = int((label >= 0).sum()) if label.ndim == 1 else int(label.isfinite().any(1).sum())
        return cls(std, channel_score(mean, label), values.mean(0), values.std(0, correction=0), labelled)


def moments(x: Tensor) -> Tensor:
    """Compute mean and standard deviation over space: (B, N, H, W) -> (B, 2, N)."""
    mean = x.mean((2, 3))
    centred = x - mean[:, :, None, None]
    square = centred.square() if centred.requires_grad else centred.square_()  # in place saves a second map
    return torch.stack([mean, (square.mean((2, 3)) + EPSILON).sqrt()], 1)


def scaled_moments(x: Tensor, scale: Tensor | None, unscaled: Tensor | None = None) -> Tensor:
    """Compute `moments(x * scale)` without scaling the map: (B, N, H, W), (N,) -> (B, 2, N).

    Args:
        unscaled: `moments(x)`, if they are known already.
    """
    unscaled = moments(x.float()) if unscaled is None else unscaled
    return unscaled if scale is None else unscaled * torch.stack([scale, scale.abs()])


def inverse_std(std: Tensor) -> Tensor:
    """Invert standard deviations: (N,) -> (N,), `1 / max(std, 0.1 * mean(std))`.

    The bound keeps a channel that was nearly silent in the sample from being blown up when it is active, and with it
    the rounding errors of a pass in lower precision.
    """
    floor = 0.1 * std.mean()
    return 1 / std.clamp(min=floor) if floor > 1e-12 else torch.ones_like(std)


def channel_score(mean: Tensor, label: Tensor) -> Tensor:
    """Score channels by what they say about the labels; larger says more: (n, N), (n,) or (n, W) -> (N,).

    For classes it is Fisher's F ratio. For targets it is r² / (1 - r²), averaged over the targets, with the correlation
    r of channel and target: with one target of 0 and 1 the same as the F ratio of two classes.
    """
    if label.ndim == 1:
        return _f_ratio(mean, label)
    ratios = []
    for target in label.unbind(1):
        known = target.isfinite()
        x, y = mean[known], target[known].to(mean)
        x, y = x - x.mean(0), y - y.mean()
        r2 = (y @ x).square() / (x.square().sum(0) * y.square().sum()).clamp(min=1e-12)
        ratios.append(r2 / (1 - r2).clamp(min=1e-6))
    return torch.stack(ratios).nan_to_num().mean(0)


def _f_ratio(mean: Tensor, label: Tensor) -> Tensor:
    """Compute the variance between over that within classes: (n, N), (n,) -> (N,) (Fisher's F, up to a factor)."""
    within, between = torch.zeros_like(mean[0]), torch.zeros_like(mean[0])
    mean, label = mean[label >= 0], label[label >= 0]
    for value in label.unique():
        group = mean[label == value]
        within += (group - group.mean(0)).square().sum(0)
        between += len(group) * (group.mean(0) - mean.mean(0)).square()
    return between / within.clamp(min=1e-12)
