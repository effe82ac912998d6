"""The last layer of many tasks at once: one gather of what a pass says, and one matrix product.

Everything behind the own features of a delta is linear in the moments of channels, in the final features and in roots
of the source's probabilities: with x such a value and s the scale of its channel, `W ((x s - centre) gain)`.

Shape letters: B pictures, T tasks, S slots, F inputs of a task's readout, D own features of a delta, C classes of the
task with the most, R directions of a low-rank head.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from snow.delta import Delta, Readout
from snow.delta.readout import root_probabilities
from snow.methods.snow import Snow
from snow.source import FINAL, LOGITS, Features


class ReadoutInputs(NamedTuple):
    """What the readouts of several tasks gather from: moments of taps, the final features, the source's answers.

    Attributes:
        taps: names of the maps, in order; empty if no moments are read.
        answers: whether the source's answers are read.
    """

    taps: tuple[str, ...]
    answers: bool

    @classmethod
    def of(cls, method: Snow) -> ReadoutInputs:
        """Find what the readout of a method may gather from: the same for all deltas of one plan, if possible."""
        delta, start = method.delta, method.readout
        names = [] if start is None else [name for name, _ in start.shape.parts]
        read = tuple(name for name in names if name not in (FINAL, LOGITS))
        if delta is not None and (read or list(delta.moments_heads())):
            read = tuple(delta.taps)
        return cls(read, LOGITS in names)

    def values(self, features: Features) -> Tensor:
        """Join all that can be gathered: (B, 2 N + ... + D + answers). Moments that nobody asked for are zero."""
        moments = [
            features.moments[tap].flatten(1)
            if tap in features.moments
            else features.final.new_zeros(len(features.final), 2 * features.maps[tap].shape[1])
            for tap in self.taps
        ]
        answers = [root_probabilities(features.logits)] if self.answers else []
        return torch.cat([*moments, features.final, *answers], 1)

    def offsets(self, features: Features) -> dict[str, int]:
        """Find where each part begins among `values`."""
        sizes = {tap: 2 * features.maps[tap].shape[1] for tap in self.taps}
        sizes |= {FINAL: features.final.shape[1], LOGITS: features.logits.shape[1]}
        offsets, first = {}, 0
        for name, size in sizes.items():
            offsets[name] = first
            first += size
        return offsets


class ReadoutWeights(NamedTuple):
    """The readout of one task. With `expand` the outputs of `weight` are directions, without it they are logits.

    Attributes:
        index: (F,), places among `ReadoutInputs.values`.
        scale, centre, gain: (F,) each. They are not folded into the weights: whitened ones are so large that products
            of what is far from zero would round away what matters.
        weight: (F, C) or (F, R).
        expand: (R, C), or None.
        own: (D, C), weights of the delta's own features.
        bias: (C,), added to the logits.
    """

    index: Tensor
    scale: Tensor
    centre: Tensor
    gain: Tensor
    weight: Tensor
    expand: Tensor | None
    own: Tensor
    bias: Tensor

    @classmethod
    def of(cls, method: Snow, offsets: dict[str, int]) -> ReadoutWeights:
        """Read the weights of a method in export form, with BatchNorm folded."""
        start, delta = method.readout, method.delta
        parts = [] if start is None else [_start(start, offsets)]
        if delta is not None:
            parts.append(_delta(delta, offsets))
        return reduce(cls.plus, parts)

    def plus(self, other: ReadoutWeights) -> ReadoutWeights:
        """Make one readout of two, whose logits are the sum of theirs."""
        names = ("index", "scale", "centre", "gain", "own")
        joined = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in names}
        if self.expand is None or other.expand is None:
            weight, expand = torch.cat([self._dense(), other._dense()]), None
        else:
            weight, expand = torch.block_diag(self.weight, other.weight), torch.cat([self.expand, other.expand])
        return ReadoutWeights(**joined, weight=weight, expand=expand, bias=self.bias + other.bias)

    def _dense(self) -> Tensor:
        return self.weight if self.expand is None else self.weight @ self.expand


class StackedReadout(nn.Module):
    """Compute the logits of up to S deltas of one plan: (B, T D) and `Features` -> (T, B, C).

    Args:
        inputs: what their readouts gather from.
        first: one of them.
        slots: S.
    """

    def __init__(self, inputs: ReadoutInputs, first: ReadoutWeights, slots: int) -> None:
        super().__init__()
        self.inputs = inputs
        like, classes, inputs_room = first.weight, room(first.own.shape[1]), room(len(first.index))
        outputs = classes if first.expand is None else like.shape[1]
        self.tensors = {
            "index": torch.zeros(slots, inputs_room, dtype=torch.long, device=like.device),
            **{name: like.new_zeros(slots, inputs_room) for name in ("scale", "centre", "gain")},
            "weight": like.new_zeros(slots, inputs_room, outputs),
            "own": like.new_zeros(slots, len(first.own), classes),
            "bias": like.new_zeros(slots, classes),
        }
        if first.expand is not None:
            self.tensors["expand"] = like.new_zeros(slots, outputs, classes)
        self.current = self.tensors

    def put(self, slot: int, weights: ReadoutWeights) -> None:
        """Copy the tensors of a task into a slot."""
        for name, tensor in self.tensors.items():
            value = getattr(weights, name)
            place = tensor[slot].zero_()
            place[tuple(slice(side) for side in value.shape)] = value

    def select(self, slots: slice | Tensor) -> None:
        """Choose the tasks that the next `forward` runs."""
        self.current = {
            name: value[slots] if isinstance(slots, slice) else value.index_select(0, slots)
            for name, value in self.tensors.items()
        }

    def forward(self, own: Tensor, features: Features) -> Tensor:
        """Compute logits: (T, B, C)."""
        current = self.current
        count, inputs = current["index"].shape
        known = self.inputs.values(features)
        read = known.index_select(1, current["index"].flatten()).view(-1, count, inputs).transpose(0, 1)
        scale, centre, gain = (current[name][:, None] for name in ("scale", "centre", "gain"))
        outputs = torch.bmm((read * scale - centre) * gain, current["weight"])
        own = own.view(len(own), count, -1).transpose(0, 1)
        if "expand" in current:
            outputs = torch.baddbmm(current["bias"][:, None], outputs, current["expand"])
        else:
            outputs = outputs + current["bias"][:, None]
        return outputs.baddbmm_(own, current["own"])


def room(count: int) -> int:
    """Round up to one of four numbers between two powers of two, at least 8: tasks with as much room share a stack."""
    step = max(8, 1 << max(0, (count - 1).bit_length() - 3))
    return -(-count // step) * step


def _start(start: Readout, offsets: dict[str, int]) -> ReadoutWeights:
    """Read the readout of a start."""
    places = [offsets[name] + torch.arange(size, device=start.weight.device) for name, size in start.shape.parts]
    index = torch.cat(places)[start.index.long()]
    expand = None if start.expand is None else start.expand.t()
    own = start.bias.new_zeros(0, len(start.bias))
    unscaled = torch.ones_like(start.gain)
    return ReadoutWeights(index, unscaled, start.centre, start.gain, start.weight.t(), expand, own, start.bias)


def _delta(delta: Delta, offsets: dict[str, int]) -> ReadoutWeights:
    """Read the moments heads of a delta, its weights of final features, and those of its own features."""
    own = delta.classifier.weight[:, : delta.classifier.own, 0, 0].t()
    bias = own.new_zeros(own.shape[1]) if delta.classifier.bias is None else delta.classifier.bias
    if delta.final is None:  # one that learned beside a start with its own features alone
        nothing, rank_zero = own.new_zeros(0), own.new_zeros(0, 0)
        return ReadoutWeights(nothing.long(), nothing, nothing, nothing, rank_zero, own[:0], own, bias)
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    heads, named = list(delta.moments_heads()), delta.named_subscriptions()
    for (tap, subscription), head in zip(named[:-1], heads, strict=False):
        scale, selected = cast(Tensor, subscription.scale), cast(Tensor, subscription.index).long()
        index = torch.cat([offsets[tap] + selected, offsets[tap] + subscription.channels + selected])
        scales = torch.cat([scale, scale.abs()])
        parts.append((index, scales, head.centre.flatten(), head.gain.flatten(), head.weight.flatten(1).t()))
    final = named[-1][1]
    index, scale = offsets[FINAL] + cast(Tensor, final.index).long(), cast(Tensor, final.scale)
    if delta.directions is None:
        weight = delta.classifier.weight[:, delta.classifier.own :, 0, 0].t()
        parts.append((index, scale, torch.zeros_like(scale), torch.ones_like(scale), weight))
    else:
        parts.append((index, scale, heads[-1].centre[0], heads[-1].gain[0], heads[-1].weight[:, 0].t()))
    index, scale, centre, gain, weight = (torch.cat(values) for values in zip(*parts, strict=True))
    expand = None if delta.directions is None else delta.directions.expand.weight.t()
    return ReadoutWeights(index, scale, centre, gain, weight, expand, own, bias)
