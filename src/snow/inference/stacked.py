"""Stacked inference: deltas of one plan run together, as one network with T times the channels.

Activations of T tasks lie side by side as channels, (B, T C, H, W) in channels-last memory. A 1×1 convolution is then
one batched matrix product of T small matrices, a depthwise convolution is one over T C channels, and the first layer of
all stems is one convolution, because all of them read the same pictures. Six tasks take as many operations as one.

Shape letters: B pictures, T tasks, S slots of a stack, C and O channels of one task in front of a layer and behind it,
F inputs of a readout, P places of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from snow.delta import Delta
from snow.inference.module_tree import copy_tree
from snow.inference.readout import ReadoutInputs, ReadoutWeights, StackedReadout
from snow.methods.snow import Snow
from snow.source import Features
from snow.subscribe import FusionConv, SubscribedMap, gather_channels

SLOTS = 32
"""Tasks per stack. More at a time are no faster: their maps do not fit the processor's cache."""

Slots = slice | Tensor
"""Slots of a stack: neighbours, which are read in place, or any, whose weights are copied for the pass."""


class StackedLayer(nn.Module):
    """A convolution of up to S tasks. A subclass says how their tensors are laid out, and convolves.

    Attributes:
        tensors: name -> (S, ...), filled slot by slot.
        current: the tensors of the tasks that run, (T, ...).
    """

    def __init__(self, convolution: nn.Conv2d | FusionConv) -> None:
        super().__init__()
        self.stride, self.padding = _single(convolution.stride), _single(convolution.padding)
        self.tensors = {name: value.new_empty(SLOTS, *value.shape) for name, value in self.layout(convolution).items()}
        self.current = self.tensors

    def layout(self, convolution: nn.Conv2d | FusionConv) -> dict[str, Tensor]:
        """Lay out the tensors of one task."""
        weight, bias = convolution.weight, convolution.bias
        if weight.shape[-1] == 1:
            weight = weight[:, :, 0, 0].t()
        return {"weight": weight, "bias": weight.new_zeros(weight.shape[0]) if bias is None else bias}

    def put(self, slot: int, convolution: nn.Conv2d | FusionConv) -> None:
        for name, value in self.layout(convolution).items():
            self.tensors[name][slot] = value

    def select(self, slots: Slots) -> None:
        self.current = {name: _selected(value, slots) for name, value in self.tensors.items()}


class StackedStem(StackedLayer):
    """Convolve pictures with the kernels of T tasks: (B, 3, S, S) -> (B, T O, S/stride, S/stride)."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.current["weight"], self.current["bias"]
        return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), self.stride, self.padding)


class StackedConv(StackedLayer):
    """Convolve the channels of each task with its own kernels: (B, T C, H, W) -> (B, T O, H/stride, W/stride)."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(convolution)
        self.groups = convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.current["weight"], self.current["bias"]
        if weight.ndim == 3:
            return pointwise(strided(x, self.stride), weight, bias)
        groups = self.groups * len(weight)
        return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), self.stride, self.padding, groups=groups)


class StackedFusion(StackedLayer):
    """Fuse own and subscribed channels of each task: (B, T own, H, W), (B, T K, H, W) -> (B, T O, H', W')."""

    def layout(self, convolution: nn.Conv2d | FusionConv) -> dict[str, Tensor]:
        assert isinstance(convolution, FusionConv)
        values = super().layout(convolution)
        dim = 0 if values["weight"].ndim == 2 else 1
        own, subscribed = values["weight"].tensor_split([convolution.own], dim)
        return {"own": own, "subscribed": subscribed, "bias": values["bias"]}

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        weights, x = self.current, subscribed.features
        if weights["own"].ndim == 3:
            y = pointwise(strided(x, self.stride), weights["subscribed"], weights["bias"])
            return pointwise(strided(own, self.stride), weights["own"], out=y)
        count = len(weights["own"])
        parts = ((own, weights["own"], weights["bias"].flatten()), (x, weights["subscribed"], None))
        y, added = (
            functional.conv2d(value, weight.flatten(0, 1), bias, self.stride, self.padding, groups=count)
            for value, weight, bias in parts
        )
        return y.add_(added)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Multiply the channels of each task by its own matrix: (B, T C, H, W), (T, C, O) -> (B, T O, H, W).

    Args:
        bias: (T, O).
        out: tensor to add the product to, in the place of a bias.
    """
    (count, inputs, outputs), (batch, _, height, width) = weight.shape, x.shape
    by_task = x.permute(0, 2, 3, 1).reshape(-1, count, inputs).transpose(0, 1)
    if out is None:
        out = x.new_empty(batch, height, width, count * outputs).permute(0, 3, 1, 2)
        result = out.permute(0, 2, 3, 1).view(-1, count, outputs).transpose(0, 1)
        assert bias is not None
        torch.baddbmm(bias[:, None], by_task, weight, out=result)
        return out
    out.permute(0, 2, 3, 1).view(-1, count, outputs).transpose(0, 1).baddbmm_(by_task, weight)
    return out


def strided(x: Tensor, stride: int) -> Tensor:
    """Keep every `stride`-th place in both directions."""
    return x if stride == 1 else x[..., ::stride, ::stride]


class StackedDelta(nn.Module):
    """Up to S deltas of one plan: `Features` of B pictures -> (B, C) for each of T tasks.

    Args:
        method: one of them, with BatchNorm folded; see `is_stackable`.
        features: of any pictures, for the sizes of what a readout gathers from.
    """

    def __init__(self, method: Snow, features: Features) -> None:
        super().__init__()
        delta = method.delta
        assert delta is not None
        self.taps = delta.taps
        self.stem, self.blocks, self.head = (_with_stacked_layers(part, is_stem) for part, is_stem in _parts(delta))
        self.indices = {
            tap: torch.zeros(SLOTS, subscription.width, dtype=torch.long, device=delta.classifier.weight.device)
            for tap, subscription, _ in delta.levels()
        }
        inputs = ReadoutInputs.of(method)
        self._offsets = inputs.offsets(features)
        self.readout = StackedReadout(inputs, ReadoutWeights.of(method, self._offsets), SLOTS)
        self.current = self.indices
        self._selected: object = None

    def put(self, slot: int, method: Snow) -> None:
        """Copy the tensors of a method into a slot."""
        delta = method.delta
        assert delta is not None
        for (part, _), stacked in zip(_parts(delta), (self.stem, self.blocks, self.head), strict=True):
            for name, layer in stacked.named_modules():
                if isinstance(layer, StackedLayer):
                    layer.put(slot, cast(nn.Conv2d, part.get_submodule(name)))
        for (tap, subscription, _), layer in zip(delta.levels(), self.fusions(), strict=True):
            scale, index = cast(Tensor, subscription.scale), cast(Tensor, subscription.index)
            self.indices[tap][slot] = index.long()
            for fusion in layer:
                weight = fusion.tensors["subscribed"][slot]
                weight.mul_(scale[:, None] if weight.ndim == 2 else scale[:, None, None])
        self.readout.put(slot, ReadoutWeights.of(method, self._offsets))
        self._selected = None

    def fusions(self) -> list[list[StackedFusion]]:
        """List the layers behind each subscription."""
        blocks = cast(nn.ModuleList, self.blocks)
        return [[layer for layer in block.modules() if isinstance(layer, StackedFusion)] for block in blocks]

    def select(self, slots: Slots) -> None:
        """Choose the tasks that the next `forward` runs."""
        if isinstance(slots, slice) and slots == self._selected:
            return
        for layer in self.modules():
            if isinstance(layer, StackedLayer):
                layer.select(slots)
        self.current = {tap: _selected(index, slots).flatten() for tap, index in self.indices.items()}
        self.readout.select(slots)
        self._selected = slots

    def forward(self, features: Features) -> Tensor:
        """Compute logits: (T, B, C), with as many classes as the task with the most."""
        h = self.stem(features.images)
        for tap, block in zip(self.taps, cast(nn.ModuleList, self.blocks), strict=True):
            x = features.maps[tap]
            if h.shape[-2:] != x.shape[-2:]:  # convolutions without padding make odd sizes
                h = functional.adaptive_avg_pool2d(h, (x.shape[-2], x.shape[-1]))
            x = gather_channels(x, self.current[tap]).contiguous(memory_format=torch.channels_last)
            h = block(h, SubscribedMap(x, None))
        return self.readout(self.head(h).mean((2, 3)), features)


class StackedStart(nn.Module):
    """Up to S methods that are a readout alone, without a delta: `Features` of B pictures -> (T, B, C)."""

    def __init__(self, method: Snow, features: Features) -> None:
        super().__init__()
        inputs = ReadoutInputs.of(method)
        self._offsets = inputs.offsets(features)
        self.readout = StackedReadout(inputs, ReadoutWeights.of(method, self._offsets), SLOTS)

    def put(self, slot: int, method: Snow) -> None:
        """Copy the tensors of a method into a slot."""
        self.readout.put(slot, ReadoutWeights.of(method, self._offsets))

    def select(self, slots: Slots) -> None:
        """Choose the tasks that the next `forward` runs."""
        self.readout.select(slots)

    def forward(self, features: Features) -> Tensor:
        """Compute logits: (T, B, C)."""
        return self.readout(features.final[:, :0], features)


def is_stackable(delta: Delta) -> bool:
    """Whether a delta in export form, with BatchNorm folded, consists of what can be stacked."""
    passes = all(sub.passes_channels and hasattr(sub, "scale") for sub in delta.all_subscriptions())
    layers = [layer for part, _ in _parts(delta) for layer in part.modules()]
    owners = [layer for layer in layers if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]]
    return passes and all(isinstance(layer, nn.Conv2d | FusionConv) and _is_plain(layer) for layer in owners)


def _is_plain(layer: nn.Conv2d | FusionConv) -> bool:
    """Whether one number each says the stride and the padding of a layer."""
    if isinstance(layer, FusionConv):
        return True
    square = all(len(set(value)) == 1 for value in (layer.stride, layer.padding) if isinstance(value, tuple))
    return square and not isinstance(layer.padding, str) and set(layer.dilation) == {1}


def _parts(delta: Delta) -> Sequence[tuple[nn.Module, bool]]:
    """List stem, blocks and head, and whether the first layer reads pictures."""
    return ((delta.stem, True), (delta.blocks, False), (delta.head, False))


def _with_stacked_layers(part: nn.Module, is_stem: bool) -> nn.Module:
    """Copy a part of a delta with stacked layers in the place of its convolutions."""
    copied = copy_tree(part)
    for name, layer in part.named_modules():
        if isinstance(layer, nn.Conv2d):
            copied.set_submodule(name, StackedStem(layer) if is_stem else StackedConv(layer))
            is_stem = False
        elif isinstance(layer, FusionConv):
            copied.set_submodule(name, StackedFusion(layer))
    return copied


def _selected(value: Tensor, slots: Slots) -> Tensor:
    return value[slots] if isinstance(slots, slice) else value.index_select(0, slots)


def _single(value: int | str | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else int(value)
