"""The linear classifier of a start: reads final features, the source's answers, and moments of channels, once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from snow.delta.start import Start
from snow.errors import SnowError
from snow.source import FINAL, LOGITS, Features
from snow.subscribe import moments


class ReadoutShape(NamedTuple):
    """The shape of a readout, which JSON can hold.

    Attributes:
        parts: name and size of each part of what it gathers from: `FINAL` (D), `LOGITS` (the source's classes), and
            taps (2 N: all means, then all standard deviations).
        inputs: I, how many inputs it gathers.
        rank: R; 0: a weight for each class and input.
    """

    parts: tuple[tuple[str, int], ...]
    inputs: int
    rank: int

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {"parts": [list(part) for part in self.parts], "inputs": self.inputs, "rank": self.rank}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the result of `to_dict`. Raises SnowError if it is not one."""
        try:
            parts = tuple((str(name), int(size)) for name, size in values["parts"])
            return cls(parts, int(values["inputs"]), int(values["rank"]))
        except (TypeError, KeyError, ValueError) as error:
            raise SnowError(f"the readout's shape cannot be read: {error}") from error


class Readout(nn.Module):
    """Classify linearly what one pass of the source says: `Features` of B pictures -> (B, C).

        x = concat(final, sqrt(softmax(logits)), moments of each tap)[index]
        logits = expand ((x - centre) * gain) W' + bias               without `expand` at full rank

    Args:
        shape: what it gathers.
        num_classes: C.
        learning: it holds `refit` and `refit_bias`, what a fit to held-out pictures adds to weight and bias.
        dropout: dropout probability of its inputs while its weights learn.
    """

    def __init__(self, shape: ReadoutShape, num_classes: int, learning: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        rows = shape.rank or num_classes
        self.index: Tensor
        self.register_buffer("index", torch.arange(shape.inputs, dtype=torch.int32))
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(shape.inputs))
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(shape.inputs))
        self.weight = nn.Parameter(torch.zeros(rows, shape.inputs))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.expand = nn.Parameter(torch.zeros(num_classes, shape.rank)) if shape.rank else None
        self.refit: Tensor | None
        self.register_buffer("refit", torch.zeros(rows, shape.inputs) if learning else None)
        self.refit_bias: Tensor | None
        self.register_buffer("refit_bias", torch.zeros(num_classes) if learning else None)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    @torch.no_grad()
    def from_start(cls, start: Start, parts: Sequence[tuple[str, int]], dropout: float = 0.0) -> Self:
        """Make the readout of a start whose inputs are those of `parts`; parts without any are left out."""
        index, used, first, dropped = [], [], 0, 0
        for name, size in parts:
            inside = start.index[(start.index >= first) & (start.index < first + size)]
            if len(inside):
                used.append((name, size))
                index.append(inside - dropped)
            else:
                dropped += size
            first += size
        rank = 0 if start.expand is None else start.expand.shape[1]
        readout = cls(ReadoutShape(tuple(used), len(start.index), rank), len(start.bias), True, dropout)
        readout.index.copy_(torch.cat(index))
        for own in ("centre", "gain", "refit", "refit_bias"):
            getattr(readout, own).copy_(getattr(start, own))
        for parameter, value in ((readout.weight, start.weight), (readout.bias, start.bias)):
            parameter.copy_(value)
        if readout.expand is not None and start.expand is not None:
            readout.expand.copy_(start.expand)
        return readout

    @property
    def taps(self) -> frozenset[str]:
        """Names of the taps whose moments it reads."""
        return frozenset(name for name, _ in self.shape.parts) - {FINAL, LOGITS}

    def forward(self, features: Features) -> Tensor:
        """Compute logits: (B, C)."""
        x = torch.cat([_part(name, features) for name, _ in self.shape.parts], 1).index_select(1, self.index)
        x = self.dropout((x - self.centre) * self.gain)
        z = nn.functional.linear(x, self.weight)
        return (z if self.expand is None else nn.functional.linear(z, self.expand)) + self.bias

    def selected_mask(self) -> dict[str, Tensor]:
        """Return the channels that it reads: tap, or `FINAL` -> (N,) of bool."""
        masks, first = {}, 0
        read = torch.zeros(sum(size for _, size in self.shape.parts), dtype=torch.bool, device=self.index.device)
        read[self.index.long()] = True
        for name, size in self.shape.parts:
            mask = read[first : first + size]
            first += size
            if name != LOGITS:
                masks[name] = mask if name == FINAL else mask.view(2, -1).any(0)
        return masks

    @torch.no_grad()
    def add_refit(self) -> None:
        """Add what a fit to the held-out pictures adds, once."""
        if self.refit is not None and self.refit_bias is not None:
            self.weight += self.refit
            self.bias += self.refit_bias
            self.refit.zero_()
            self.refit_bias.zero_()

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply the logits by a factor."""
        (self.weight if self.expand is None else self.expand).mul_(factor)
        self.bias *= factor

    def export_form(self) -> Readout:
        """Copy without `refit`."""
        exported = Readout(self.shape, self.num_classes).to(self.weight.device)
        values = self.state_dict()
        exported.load_state_dict({name: values[name] for name in exported.state_dict()})
        return exported.eval()


def _part(name: str, features: Features) -> Tensor:
    """Read one part of a pass: (B, size), in float32."""
    if name == FINAL:
        return features.final.float()
    if name == LOGITS:
        return root_probabilities(features.logits)
    values = features.moments.get(name)
    return (moments(features.maps[name].float()) if values is None else values).flatten(1)


def root_probabilities(logits: Tensor) -> Tensor:
    """Compute square roots of the probabilities of the source's classes: (B, C) -> (B, C).

    Their differences are the Hellinger distance of two answers.
    """
    return (0.5 * logits.float().log_softmax(1)).exp()
