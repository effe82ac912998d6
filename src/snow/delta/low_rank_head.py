"""The part of a classifier that reads all subscribed channels through a few directions, for tasks with many classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from snow.delta.discriminants import MAX_WHITENED_INPUTS, Whitening, discriminants
from snow.delta.moments_head import MomentsHead
from snow.subscribe import SubscribedMap, Subscription

T = TypeVar("T")

HeadInput = tuple[Subscription, int]
"""A subscription that a head reads, and the number of moments per channel: 2 of a map, 1 of the final features."""


class LowRankHead(nn.Module):
    """Compute logits from the moments x of all subscribed channels: L maps (B, K, H, W) -> (B, C).

        logits = expand(sum over maps of readout(x))        rank R instead of a weight per class and moment

    The R directions in the readouts start as linear discriminants, see `init_directions`; `expand` starts at zero.
    Inputs whose source channel is known are whitened while training, see `Whitening`.

    Args:
        head_inputs: the subscriptions to read.
        rank: R.
        num_classes: C.
        scale, dropout: of each `MomentsHead`.
        exported: build the form used for saving and inference, which has no whitening.
    """

    def __init__(
        self,
        head_inputs: Sequence[HeadInput],
        rank: int,
        num_classes: int,
        scale: float,
        dropout: float,
        exported: bool,
    ) -> None:
        super().__init__()
        self.readouts = nn.ModuleList(
            MomentsHead(subscription.weight_columns, rank, scale, dropout, kinds) for subscription, kinds in head_inputs
        )
        self.expand = nn.Linear(rank, num_classes, bias=False)
        nn.init.zeros_(self.expand.weight)
        for readout in self.all_readouts():
            nn.init.normal_(readout.weight, std=count_inputs(head_inputs) ** -0.5)
        self._has_scale = [subscription.channel_scale() is not None for subscription, _ in head_inputs]
        """Per readout: whether its weight columns belong to source channels, whose statistics are known."""
        whitened = count_inputs(self._with_scale(head_inputs))
        self.whitening = Whitening(whitened) if 0 < whitened <= MAX_WHITENED_INPUTS and not exported else None

    def forward(self, subscribed: Sequence[SubscribedMap]) -> Tensor:
        """Compute logits: (B, C)."""
        return self.expand(self.project(subscribed))

    def project(self, subscribed: Sequence[SubscribedMap]) -> Tensor:
        """Project the pictures onto the directions: (B, R)."""
        pairs = list(zip(self.all_readouts(), subscribed, strict=True))
        if self.whitening is None:
            return torch.stack([readout(x) for readout, x in pairs]).sum(0)
        inputs = [readout.scatter_columns(x) for readout, x in pairs]
        whitened = self.whitening(torch.cat(inputs, 1)).split([x.shape[1] for x in inputs], 1)
        projections = [
            nn.functional.linear(x, readout.weight.flatten(1))
            for readout, x in zip(self.all_readouts(), whitened, strict=True)
        ]
        return torch.stack(projections).sum(0)

    def all_readouts(self) -> list[MomentsHead]:
        return list(cast(Iterable[MomentsHead], self.readouts))

    @torch.no_grad()
    def init_directions(self, moments: Sequence[Tensor], selected: Sequence[Tensor | None], label: Tensor) -> None:
        """Start the directions as the linear discriminants of the selected channels. Call it after calibration.

        Both sequences have an entry for each subscription with a channel scale.

        Args:
            moments: (n, 2, N) each, scaled as the subscription scales its channels.
            selected: channels (K,) each; None: all.
            label: (n,), -1 where there is none.
        """
        readouts = self._with_scale(self.all_readouts())
        columns = [readout.column_indices(index) for readout, index in zip(readouts, selected, strict=True)]
        parts = [
            readout.standardise(values[..., index], index).flatten(1)
            for readout, values, index in zip(readouts, moments, columns, strict=True)
        ]
        inputs = torch.cat(parts, 1)
        directions = discriminants(inputs, label, self.expand.in_features)
        if self.whitening is not None:
            directions = self.whitening.fit(inputs, label, self._input_columns(columns), directions)
        split = directions.split([part.shape[1] for part in parts], 1)
        for readout, index, weights in zip(readouts, columns, split, strict=True):
            readout.set_directions(weights, index)

    def keep(self, columns: Sequence[Tensor | None], learning: bool) -> None:
        """Drop all weight columns of the readouts but these; None keeps all of a readout.

        Args:
            learning: the head trains on. It keeps its whitening if that covers exactly the columns that stay.
        """
        kept = self._input_columns(self._with_scale(columns))
        if self.whitening is not None and not (learning and torch.equal(kept, self.whitening.columns)):
            self._fold(self.whitening)
        for readout, index in zip(self.all_readouts(), columns, strict=True):
            if index is not None:
                readout.keep(index)
        if self.whitening is not None:
            self.whitening.columns = self._input_columns([None] * sum(self._has_scale))

    def _with_scale(self, values: Sequence[T]) -> list[T]:
        """Keep the entries of the readouts whose subscription has a channel scale."""
        return [value for value, has_scale in zip(values, self._has_scale, strict=True) if has_scale]

    def _input_columns(self, columns: Sequence[Tensor | None]) -> Tensor:
        """Find columns of the readouts with a channel scale among the inputs of all readouts: (D,)."""
        offset, index, remaining = 0, [], iter(columns)
        for readout, has_scale in zip(self.all_readouts(), self._has_scale, strict=True):
            if has_scale:
                index.append(offset + readout.input_columns(next(remaining)))
            offset += readout.weight[0].numel()
        return torch.cat(index)

    @torch.no_grad()
    def _fold(self, whitening: Whitening) -> None:
        """Fold the whitening into the weights of the readouts, and remove it."""
        readouts = self.all_readouts()
        weights = whitening.fold(torch.cat([readout.weight.flatten(1) for readout in readouts], 1))
        split = weights.split([readout.weight[0].numel() for readout in readouts], 1)
        for readout, part in zip(readouts, split, strict=True):
            readout.weight.copy_(part.unflatten(1, readout.weight.shape[1:]))
        self.whitening = None


def count_inputs(head_inputs: Sequence[HeadInput]) -> int:
    """Count the moments that a head reads at a time."""
    return sum(kinds * subscription.width for subscription, kinds in head_inputs)
