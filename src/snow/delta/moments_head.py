"""The part of a classifier that reads two moments of each subscribed channel: its mean and its standard deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe import ChannelStatistics, ColumnLayer, SubscribedMap, inverse_std, scaled_moments

HALF_VARIANCE_PICTURES = 1000
"""n at which the moments are scaled by sqrt(1/2). Chosen on held-out training pictures: 180 pictures of two classes did
best with a third of the full scale, 600 of ten classes with half of it or more, 4,600 of 196 classes with all."""


class MomentsHead(ColumnLayer):
    """Map moments of the subscribed channels linearly: (B, K, H, W) -> (B, width).

        z = (moments(x) - centre) * gain        centre and gain calibrated per channel and moment
        y = z W

    The final features of a source describe what separates its own classes. Its inner maps hold more, which in the paper
    only the delta's blocks carry to the end (section 2.1). Read directly, as in Head2Toe (Evci et al., 2022, with
    means), it counts from the first step. The standard deviation adds how unevenly a channel responds over the picture,
    its texture.

    Args:
        weight_columns: columns for the subscription: N, or K once the selection is fixed.
        width: outputs: classes, or directions of a `LowRankHead`.
        scale: standard deviation of z, where that of the final features is 1. After calibration on n labelled pictures
            it is `scale * sqrt(n / (n + 1000))`: with few pictures the final features are the safer evidence.
        dropout: dropout probability of a moment.
        kinds: M, moments per channel: 2 of a map; 1 of final features, which have only a mean.
    """

    def __init__(self, weight_columns: int, width: int, scale: float, dropout: float, kinds: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.zeros(width, kinds, weight_columns))
        self.centre: Tensor
        self.gain: Tensor
        self.register_buffer("centre", torch.zeros(kinds, weight_columns))
        self.register_buffer("gain", torch.full((kinds, weight_columns), scale))
        self.dropout = nn.Dropout(dropout)

    def forward(self, subscribed: SubscribedMap) -> Tensor:
        """Compute the outputs: (B, width)."""
        columns = subscribed.columns
        weight = self.weight if columns is None else self.weight[..., columns]
        return nn.functional.linear(self._standardised(subscribed).flatten(1), weight.flatten(1))

    def scatter_columns(self, subscribed: SubscribedMap) -> Tensor:
        """Lay the standardised moments out by weight column: (B, M * weight_columns), zero where none is selected."""
        standardised, columns = self._standardised(subscribed), subscribed.columns
        if columns is None:
            return standardised.flatten(1)
        zeros = standardised.new_zeros(*standardised.shape[:2], self.weight.shape[-1])
        return zeros.index_copy(2, columns, standardised).flatten(1)

    def standardise(self, moments: Tensor, columns: Tensor | None) -> Tensor:
        """Standardise moments of scaled channels: (B, 2, K) -> (B, M, K)."""
        centre, gain = self.centre, self.gain
        if columns is not None:
            centre, gain = centre[:, columns], gain[:, columns]
        return (moments[:, : len(centre)] - centre) * gain

    @torch.no_grad()
    def calibrate(self, statistics: ChannelStatistics, channel_scale: Tensor) -> None:
        """Set centre and gain from the statistics of N channels, and the factors (N,) of their subscription."""
        channel_scale = channel_scale.to(self.centre)
        scale = self.scale * (statistics.labelled / (statistics.labelled + HALF_VARIANCE_PICTURES)) ** 0.5
        kinds = len(self.centre)
        self.centre.copy_(statistics.moment_mean[:kinds] * channel_scale)
        self.gain.copy_(
            scale * torch.stack([inverse_std(std) for std in statistics.moment_std[:kinds] * channel_scale])
        )

    @torch.no_grad()
    def set_directions(self, directions: Tensor, columns: Tensor) -> None:
        """Set the weights of the first R outputs to `directions` (R, M * K) at K columns, and to zero elsewhere."""
        first = self.weight[: len(directions)]
        first.zero_()
        first[..., columns] = directions.unflatten(1, (-1, len(columns)))

    def column_indices(self, columns: Tensor | None) -> Tensor:
        """Return weight columns as indices: (K,); None means all."""
        return torch.arange(self.weight.shape[-1], device=self.weight.device) if columns is None else columns

    def input_columns(self, columns: Tensor | None) -> Tensor:
        """Find weight columns in the output of `scatter_columns`: (K,) -> (M * K,)."""
        kinds, weight_columns = self.weight.shape[1:]
        offsets = torch.arange(kinds, device=self.weight.device)[:, None] * weight_columns
        return (offsets + self.column_indices(columns)).flatten()

    def keep(self, columns: Tensor) -> None:
        self.weight = nn.Parameter(self.weight.detach()[..., columns].clone())
        self.centre, self.gain = self.centre[:, columns].clone(), self.gain[:, columns].clone()

    def _standardised(self, subscribed: SubscribedMap) -> Tensor:
        """Standardise the moments of a subscribed map: (B, K, H, W) -> (B, M, K)."""
        moments = scaled_moments(subscribed.features, subscribed.scale, subscribed.moments)
        return self.dropout(self.standardise(moments, subscribed.columns))
