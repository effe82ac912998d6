"""The last layer of many deltas at once: one gather of moments and final features, and one matrix product.

Everything behind the own features of a delta is linear in the moments of the subscribed channels and in the final
features. With m a moment, s the scale of its channel and W its weights, `W ((m s - centre) gain)` is the product of
`W s gain` and m, plus a constant, which joins the bias.

Shape letters: B pictures, T tasks, S slots, F inputs of a task's readout, D own features of a delta, C classes of the
task with the most, R directions of a low-rank head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from snow.delta import Delta
from snow.source import Features


class StackedReadout(nn.Module):
    """Compute the logits of up to S deltas of one plan: (B, T D) and the moments of the pass -> (T, B, C).

    Args:
        delta: one of them, in export form.
        slots: S.
    """

    def __init__(self, delta: Delta, slots: int) -> None:
        super().__init__()
        self.taps = [tap for tap, _ in zip(delta.taps, delta.moments_heads(), strict=False)]
        classes = class_room(delta.classifier.weight.shape[0])
        index, weight = readout_inputs(delta)
        like = delta.classifier.weight
        outputs = classes if delta.directions is None else weight.shape[1]
        self.tensors = {
            "index": torch.zeros(slots, len(index), dtype=torch.long, device=like.device),
            "weight": like.new_zeros(slots, len(index), outputs),
            "own": like.new_zeros(slots, delta.classifier.own, classes),
            "shift": like.new_zeros(slots, outputs),
            "bias": like.new_zeros(slots, classes),
        }
        if delta.directions is not None:
            self.tensors["expand"] = like.new_zeros(slots, outputs, classes)
        self.current = self.tensors

    def put(self, slot: int, delta: Delta) -> None:
        """Copy the tensors of a delta into a slot."""
        own = delta.classifier.weight[:, : delta.classifier.own, 0, 0]
        index, weight = readout_inputs(delta)
        values = {"index": index, "weight": weight, "own": own.t()}
        if self.taps:
            values["shift"] = readout_shift(delta)
        if delta.classifier.bias is not None:
            values["bias"] = delta.classifier.bias
        if delta.directions is not None:
            values["expand"] = delta.directions.expand.weight.t()
        for name, value in values.items():
            place = self.tensors[name][slot].zero_()
            place[..., : value.shape[-1]] = value

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
        read = (
            readout_values(features, self.taps)
            .index_select(1, current["index"].flatten())
            .view(-1, count, inputs)
            .transpose(0, 1)
        )
        outputs = torch.baddbmm(current["shift"][:, None], read, current["weight"])
        own = own.view(len(own), count, -1).transpose(0, 1)
        if "expand" in current:
            outputs = torch.baddbmm(current["bias"][:, None], outputs, current["expand"])
        else:
            outputs = outputs + current["bias"][:, None]
        return outputs.baddbmm_(own, current["own"])


def readout_values(features: Features, taps: Sequence[str]) -> Tensor:
    """Join the moments of all channels of these taps and the final features: (B, 2 N + ... + D)."""
    return torch.cat([*(features.moments[tap].flatten(1) for tap in taps), features.final], 1)


def class_room(classes: int) -> int:
    """Round a number of classes up to a power of two, at least 8: tasks with as much room share a stack."""
    return max(8, 1 << (classes - 1).bit_length())


def readout_inputs(delta: Delta) -> tuple[Tensor, Tensor]:
    """Find which moments and final features a delta reads, (F,), and their weights, (F, C or R)."""
    index, weights, offset = [], [], 0
    heads = list(delta.moments_heads())
    named = delta.named_subscriptions()
    for (_, subscription), head in zip(named[:-1], heads, strict=False):
        scale, selected = cast(Tensor, subscription.scale), cast(Tensor, subscription.index).long()
        factors = head.gain * torch.stack([scale, scale.abs()])
        index += [offset + selected, offset + subscription.channels + selected]
        weights.append((head.weight * factors).flatten(1).t())
        offset += 2 * subscription.channels
    final = named[-1][1]
    scale = cast(Tensor, final.scale)
    if delta.directions is None:
        weights.append((delta.classifier.weight[:, delta.classifier.own :, 0, 0] * scale).t())
    else:
        weights.append((heads[-1].weight * heads[-1].gain * scale)[:, 0].t())
    index.append(offset + cast(Tensor, final.index).long())
    return torch.cat(index), torch.cat(weights)


def readout_shift(delta: Delta) -> Tensor:
    """Compute what the centres of the moments add to the outputs of the moments heads: (C or R,)."""
    return -torch.stack([(head.weight * head.gain * head.centre).sum((1, 2)) for head in delta.moments_heads()]).sum(0)
