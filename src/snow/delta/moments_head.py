"""What a delta's classifier reads of the subscribed maps themselves: two moments of each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe import ChannelStatistics, ColumnLayer, Subscribed, inverse_std, scaled_moments

PICTURES = 1000
"""So many labelled pictures halve the variance with which moments are heard. Picked on held-out training pictures: 180
of two classes wanted a third of the full scale, 600 of ten half of it or more, 4,600 of 196 all of it."""


class MomentsHead(ColumnLayer):
    """A linear function of the mean and the standard deviation over space of each channel: a part of the logits, or of
    what the readouts of all maps tell the classifier together.

    A source's final features say what told its own classes apart; on the way there its inner maps saw more, which
    the paper leaves to the delta's blocks to carry to the end (section 2.1). Read directly, as Head2Toe (Evci et al.,
    2022) does with means, it is there from the first step, and the deviation adds how unevenly a channel answers over
    a picture: its texture.

    Args:
        slots: weight columns for the subscription.
        width: of the answer.
        scale: standard deviation of the moments as the weights meet them, where that of the final features is 1. It
            shrinks to `scale · sqrt(n / (n + 1000))` when they are calibrated on n pictures with labels: few pictures
            speak for the final features, which need less evidence.
        dropout: probability with which a moment is dropped while training.
        kinds: 2 moments of a map; 1 of features that are no map, which have only a mean.
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

    def forward(self, subscribed: Subscribed) -> Tensor:
        """Returns (B, width)."""
        columns = subscribed.columns
        weight = self.weight if columns is None else self.weight[..., columns]
        return nn.functional.linear(self._heard(subscribed).flatten(1), weight.flatten(1))

    def scatter_columns(self, subscribed: Subscribed) -> Tensor:
        """Returns (B, kinds · slots): what its weights meet, zero where a slot is not taken."""
        standardised, columns = self._heard(subscribed), subscribed.columns
        if columns is None:
            return standardised.flatten(1)
        everywhere = standardised.new_zeros(*standardised.shape[:2], self.weight.shape[-1])
        return everywhere.index_copy(2, columns, standardised).flatten(1)

    def standard(self, found: Tensor, columns: Tensor | None) -> Tensor:
        """From moments (B, 2, K) of what is subscribed to, (B, kinds, K) as the weights meet them."""
        centre, gain = self.centre, self.gain
        if columns is not None:
            centre, gain = centre[:, columns], gain[:, columns]
        return (found[:, : len(centre)] - centre) * gain

    @torch.no_grad()
    def calibrate(self, statistics: ChannelStatistics, channel_scale: Tensor) -> None:
        """Told what is known of each channel before training, and (slots,) by what the subscription multiplies it."""
        channel_scale = channel_scale.to(self.centre)
        scale = self.scale * (statistics.pictures / (statistics.pictures + PICTURES)) ** 0.5
        kinds = len(self.centre)
        self.centre.copy_(statistics.centre[:kinds] * channel_scale)
        self.gain.copy_(
            scale * torch.stack([inverse_std(spread) for spread in statistics.spread[:kinds] * channel_scale])
        )

    @torch.no_grad()
    def start(self, directions: Tensor, columns: Tensor) -> None:
        """The first m of its answers become `directions` (m, kinds · K) of the standard moments of K columns."""
        first = self.weight[: len(directions)]
        first.zero_()
        first[..., columns] = directions.unflatten(1, (-1, len(columns)))

    def column_indices(self, columns: Tensor | None) -> Tensor:
        """(K,): these of its slots; None: all."""
        return torch.arange(self.weight.shape[-1], device=self.weight.device) if columns is None else columns

    def places(self, columns: Tensor | None) -> Tensor:
        """(kinds · K,): where these slots are in what `scatter_columns` gives."""
        kinds, weight_columns = self.weight.shape[1:]
        return (
            torch.arange(kinds, device=self.weight.device)[:, None] * weight_columns + self.column_indices(columns)
        ).flatten()

    def keep(self, columns: Tensor) -> None:
        self.weight = nn.Parameter(self.weight.detach()[..., columns].clone())
        self.centre, self.gain = self.centre[:, columns].clone(), self.gain[:, columns].clone()

    def _heard(self, subscribed: Subscribed) -> Tensor:
        """(B, kinds, K)."""
        found = scaled_moments(subscribed.features.float(), subscribed.scale)
        return self.dropout(self.standard(found, subscribed.columns))
