"""The layers of all deltas of one plan, as `delta.c` runs them.

A buffer holds a map (height, width, channels) with a border of zeros for the layer that reads it. One task after the
other uses the shared buffers. Kept ones, which carry a delta's own channels from level to level, belong to each task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from snow.delta import Delta, DeltaPlan
from snow.delta.family import Block
from snow.subscribe import FusionConv

VECTOR = 8
"""Output channels are filled up to a multiple of this."""

INNER = 4096
"""Floats at the start of the shared buffers for the outputs of a low-rank head; its rank is at most this."""

MAX_INPUTS = 2**16
"""Inputs of a readout at most."""

FIELDS = (
    "kind", "activation", "source", "target", "is_map", "residual", "height", "width", "inputs", "outputs", "kernel",
    "stride", "line", "row", "start", "place", "residual_row", "residual_start", "map", "count", "index",
    "map_channels", "map_line", "weight", "bias",
)  # fmt: skip
"""Members of the C structure of a layer, in its order."""

CONVOLUTION, DEPTHWISE, MEAN = range(3)
PLAIN, RELU, RELU6 = range(3)
NOTHING = -(2**31)


class UnsupportedError(Exception):
    """The compiled code cannot run a delta of this plan."""


@dataclass(frozen=True)
class Buffer:
    """A map in memory; `offset` is in floats, and negative for a kept buffer."""

    offset: int
    height: int
    width: int
    channels: int
    border: int = 0

    @property
    def row(self) -> int:
        return (self.width + 2 * self.border) * self.channels

    @property
    def first(self) -> int:
        """Offset of the first place inside the border."""
        return self.border * (self.row + self.channels)

    @property
    def size(self) -> int:
        return (self.height + 2 * self.border) * self.row


@dataclass
class Program:
    """Layers, and the order in which they find their weights.

    Attributes:
        taps: maps that are read; map 0 is the picture.
        layers: values of `FIELDS` each.
        sizes: floats of each entry of a task's weights, in the order of `task_tensors`.
        shared, kept: floats of the shared buffers, and of those of one task.
        own: offset of the delta's own features among the kept buffers.
        head: offset behind the weights of the layers.
    """

    taps: tuple[str, ...]
    layers: list[dict[str, int]] = field(default_factory=list)
    shared: int = INNER
    kept: int = 16
    own: int = 0
    head: int = 16
    _buffers: dict[tuple[Any, ...], Buffer] = field(default_factory=dict)

    def table(self) -> np.ndarray:
        """Lay out the layers as the C structures: (layers, fields)."""
        return np.array([[layer[name] for name in FIELDS] for layer in self.layers], np.int32)

    def buffer(self, role: str, height: int, width: int, channels: int, border: int = 0) -> Buffer:
        """Find or make a shared buffer. Those of one role and shape share their memory and its border of zeros."""
        key = (role, height, width, channels, border)
        if key not in self._buffers:
            self._buffers[key] = Buffer(self.shared, height, width, channels, border)
            self.shared += -(-self._buffers[key].size // 16) * 16
        return self._buffers[key]

    def kept_buffer(self, role: str, height: int, width: int, channels: int) -> Buffer:
        """Find or make a buffer of each task."""
        key = ("kept", role, height, width, channels)
        if key not in self._buffers:
            self._buffers[key] = Buffer(-self.kept, height, width, channels)
            self.kept += -(-self._buffers[key].size // 16) * 16
        return self._buffers[key]

    def reserve(self, count: int) -> int:
        """Reserve floats among a task's weights, and return where they start."""
        start = self.head
        self.head += -(-count // 16) * 16
        return start

    def add(self, kind: int, source: Buffer, target: Buffer, activation: int = PLAIN, **fields: int) -> None:
        """Add a layer; what `fields` leaves out does nothing."""
        if target.channels % VECTOR:
            raise UnsupportedError(f"{target.channels} channels")
        base = dict.fromkeys(FIELDS, 0) | {
            "kind": kind, "activation": activation, "source": source.offset, "target": target.offset,
            "residual": NOTHING, "height": target.height, "width": target.width, "inputs": source.channels,
            "outputs": target.channels, "kernel": 1, "stride": 1, "line": source.row, "row": target.row,
            "start": source.first, "place": target.first, "bias": -1,
        }  # fmt: skip
        self.layers.append(base | fields)


def make_program(plan: DeltaPlan, delta: Delta, sides: Mapping[str, int], image_size: int) -> Program:
    """List the layers of a delta.

    Args:
        delta: of the plan, with BatchNorm folded, and stackable.
        sides: height and width of each tap's map.
        image_size: side of the picture.

    Raises:
        UnsupportedError: the compiled code has no layer for something in the plan.
    """
    blocks = {"mbconv": _add_mbconv, "bottleneck": _add_bottleneck}
    if plan.family not in blocks or not plan.patchify or image_size % plan.stem_stride:
        raise UnsupportedError(f"family {plan.family}")
    program = Program(tuple(delta.taps))
    side = image_size // plan.stem_stride
    picture = Buffer(0, image_size, image_size, 3)
    own = program.kept_buffer("even", side, side, plan.stem)
    patch = plan.stem_stride
    weight = program.reserve(3 * patch * patch * plan.stem)
    bias = program.reserve(plan.stem)
    program.add(CONVOLUTION, picture, own, RELU, is_map=1, kernel=patch, stride=patch, weight=weight, bias=bias)
    for number, (tap, subscription, block) in enumerate(delta.levels()):
        if sides[tap] != own.height:
            raise UnsupportedError("maps of odd sizes")
        selected = {
            "map": number + 1,
            "count": subscription.width,
            "map_channels": subscription.channels,
            "map_line": subscription.channels * sides[tap],
        }
        own = blocks[plan.family](program, block, own, "odd" if number % 2 == 0 else "even", selected)
    if plan.family == "mbconv":
        wide = program.buffer("head", own.height, own.width, plan.features)
        weight, bias = program.reserve(own.channels * plan.features), program.reserve(plan.features)
        program.add(CONVOLUTION, own, wide, RELU6, weight=weight, bias=bias)
        own = wide
    mean = program.kept_buffer("mean", 1, 1, own.channels)
    program.add(MEAN, own, mean, height=own.height, width=own.width)
    program.own = -mean.offset
    return program


def _add_fusion(
    program: Program, conv: FusionConv, own: Buffer, target: Buffer, activation: int, selected: dict[str, int]
) -> None:
    outputs = conv.weight.shape[0]
    weight = program.reserve((own.channels + selected["count"]) * outputs)
    bias, index = program.reserve(outputs), program.reserve(selected["count"])
    program.add(
        CONVOLUTION, own, target, activation, weight=weight, bias=bias, index=index, stride=conv.stride, **selected
    )


def _add_mbconv(program: Program, block: Block, own: Buffer, role: str, selected: dict[str, int]) -> Buffer:
    layers: Any = block
    kernel, stride = layers.depthwise.kernel_size[0], layers.depthwise.stride[0]
    hidden, out = layers.depthwise.out_channels, layers.project.out_channels
    height, width = ((side + 2 * (kernel // 2) - kernel) // stride + 1 for side in (own.height, own.width))
    wide = program.buffer("wide", own.height, own.width, hidden, kernel // 2)
    _add_fusion(program, layers.expand, own, wide, RELU6, selected)
    deep = program.buffer("deep", height, width, hidden)
    weight, bias = program.reserve(kernel * kernel * hidden), program.reserve(hidden)
    program.add(DEPTHWISE, wide, deep, RELU6, kernel=kernel, stride=stride, start=0, weight=weight, bias=bias)
    narrow = program.kept_buffer(role, height, width, out)
    weight, bias = program.reserve(hidden * out), program.reserve(out)
    added = {"residual": own.offset, "residual_row": own.row} if layers.residual else {}
    program.add(CONVOLUTION, deep, narrow, weight=weight, bias=bias, **added)
    return narrow


def _add_bottleneck(program: Program, block: Block, own: Buffer, role: str, selected: dict[str, int]) -> Buffer:
    layers: Any = block
    kernel, stride = layers.conv2.kernel_size[0], layers.conv2.stride[0]
    hidden, out = layers.conv2.out_channels, layers.conv3.out_channels
    height, width = ((side + 2 * (kernel // 2) - kernel) // stride + 1 for side in (own.height, own.width))
    reduced = program.buffer("reduced", own.height, own.width, hidden, kernel // 2)
    _add_fusion(program, layers.conv1, own, reduced, RELU, selected)
    deep = program.buffer("deep", height, width, hidden)
    weight, bias = program.reserve(kernel * kernel * hidden * hidden), program.reserve(hidden)
    program.add(CONVOLUTION, reduced, deep, RELU, kernel=kernel, stride=stride, start=0, weight=weight, bias=bias)
    weight, bias = program.reserve(hidden * out), program.reserve(out)
    shortcut = program.buffer("shortcut", height, width, out)
    _add_fusion(program, layers.shortcut, own, shortcut, PLAIN, selected)
    result = program.kept_buffer(role, height, width, out)
    program.add(
        CONVOLUTION, deep, result, RELU, weight=weight, bias=bias, residual=shortcut.offset, residual_row=shortcut.row
    )
    return result


def task_tensors(delta: Delta) -> Iterator[Tensor]:
    """Yield the tensors of a delta's layers in the order in which `make_program` reserves room for them."""
    stem, *_ = (layer for layer in delta.stem.modules() if isinstance(layer, nn.Conv2d))
    yield from _convolution(stem)
    for _, subscription, block in delta.levels():
        scale, index = cast(Tensor, subscription.scale), cast(Tensor, subscription.index)
        for layer in block.modules():
            if isinstance(layer, FusionConv):
                weight = layer.weight[:, :, 0, 0].t().clone()
                weight[layer.own :] *= scale[:, None]
                yield from (weight, _bias(layer), index.int().view(torch.float32))
            elif isinstance(layer, nn.Conv2d):
                yield from _convolution(layer)
    for layer in delta.head.modules():
        if isinstance(layer, nn.Conv2d):
            yield from _convolution(layer)


def _convolution(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Lay out weights by place of the kernel, then input, then output: (O, C, k, k) -> (k, k, C, O)."""
    return layer.weight.permute(2, 3, 1, 0), _bias(layer)


def _bias(layer: nn.Conv2d | FusionConv) -> Tensor:
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias
