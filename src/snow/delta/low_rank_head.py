"""What a delta of many classes reads of all that it subscribes to: a few directions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from snow.delta.discriminants import MOST, Whitening, discriminants
from snow.delta.moments_head import MomentsHead
from snow.subscribe import Subscribed, Subscription


class LowRankHead(nn.Module):
    """A product of two matrices in place of one with a weight for each class and each moment: `rank` directions, which
    start as linear discriminants, then a linear function of them, which starts at zero.

    Args:
        read: subscriptions, with the kinds of moments that there are of each.
        scale, dropout: of a `MomentsHead`.
        served: build the form that answers and is saved, whose directions are of the moments themselves.
    """

    def __init__(
        self,
        read: Sequence[tuple[Subscription, int]],
        rank: int,
        num_classes: int,
        scale: float,
        dropout: float,
        exported: bool,
    ) -> None:
        super().__init__()
        self.readouts = nn.ModuleList(
            MomentsHead(one.weight_columns, rank, scale, dropout, kinds) for one, kinds in read
        )
        self.expand = nn.Linear(rank, num_classes, bias=False)
        nn.init.zeros_(self.expand.weight)
        for one in self.all_readouts():
            nn.init.normal_(one.weight, std=width(read) ** -0.5)
        self._known = [one.channel_scale() is not None for one, _ in read]
        known = width([each for each, known in zip(read, self._known, strict=True) if known])
        self.whitening = Whitening(known) if 0 < known <= MOST and not exported else None

    def forward(self, subscribed: Sequence[Subscribed]) -> Tensor:
        """Returns (B, num_classes)."""
        return self.expand(self.project(subscribed))

    def project(self, subscribed: Sequence[Subscribed]) -> Tensor:
        """(B, rank): each picture's place along the directions."""
        readouts = self.all_readouts()
        if self.whitening is None:
            return torch.stack([readout(one) for readout, one in zip(readouts, subscribed, strict=True)]).sum(0)
        standardised = [readout.scatter_columns(one) for readout, one in zip(readouts, subscribed, strict=True)]
        white = self.whitening(torch.cat(standardised, 1)).split([one.shape[1] for one in standardised], 1)
        told = [nn.functional.linear(x, one.weight.flatten(1)) for one, x in zip(readouts, white, strict=True)]
        return torch.stack(told).sum(0)

    def all_readouts(self) -> list[MomentsHead]:
        return list(cast(Iterable[MomentsHead], self.readouts))

    @torch.no_grad()
    def start(self, found: Sequence[Tensor], taken: Sequence[Tensor | None], label: Tensor) -> None:
        """After calibration: the directions become the discriminants of what would be taken now.

        Args:
            found: of each subscription whose channels are known as they are, `moments` (n, 2, N), scaled as it scales.
            taken: of each such subscription the channels (K,); None: all.
            label: (n,), -1 where there is none.
        """
        known = [one for one, known in zip(self.all_readouts(), self._known, strict=True) if known]
        columns = [one.column_indices(some) for one, some in zip(known, taken, strict=True)]
        inputs = [
            one.standard(moments[..., some], some).flatten(1)
            for one, moments, some in zip(known, found, columns, strict=True)
        ]
        seen = torch.cat(inputs, 1)
        directions = discriminants(seen, label, self.expand.in_features)
        if self.whitening is not None:
            directions = self.whitening.start(seen, label, self._places(columns), directions)
        for one, some, part in zip(known, columns, directions.split([x.shape[1] for x in inputs], 1), strict=True):
            one.start(part, some)

    def keep(self, columns: Sequence[Tensor | None], learning: bool) -> None:
        """Keeps these slots of each readout for good; None: all. `learning`: in coordinates that are of just these."""
        places = self._places([some for some, known in zip(columns, self._known, strict=True) if known])
        if self.whitening is not None and not (learning and torch.equal(places, self.whitening.columns)):
            self._fold(self.whitening)
        for one, some in zip(self.all_readouts(), columns, strict=True):
            if some is not None:
                one.keep(some)
        if self.whitening is not None:
            self.whitening.columns = self._places([None] * sum(self._known))

    def _places(self, columns: Sequence[Tensor | None]) -> Tensor:
        """Where the inputs of known channels are among those of all slots: (D,)."""
        first, found, left = 0, [], iter(columns)
        for one, known in zip(self.all_readouts(), self._known, strict=True):
            if known:
                found.append(first + one.places(next(left)))
            first += one.weight[0].numel()
        return torch.cat(found)

    @torch.no_grad()
    def _fold(self, whitening: Whitening) -> None:
        """Directions of the moments themselves in place of those in coordinates, which are given up."""
        readouts = self.all_readouts()
        weights = whitening.folded(torch.cat([one.weight.flatten(1) for one in readouts], 1))
        for one, part in zip(readouts, weights.split([one.weight[0].numel() for one in readouts], 1), strict=True):
            one.weight.copy_(part.unflatten(1, one.weight.shape[1:]))
        self.whitening = None


def width(read: Sequence[tuple[Subscription, int]]) -> int:
    """How many moments are read at a time."""
    return sum(kinds * one.width for one, kinds in read)
