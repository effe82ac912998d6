"""The tensors of one task in one buffer, as `delta.c` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snow.delta import Delta
from snow.inference.compiled.program import INNER, VECTOR, Program, UnsupportedError, task_tensors
from snow.inference.readout import readout_inputs, readout_shift

ALIGNMENT = 16
"""Each tensor begins at a multiple of so many floats."""

HEAD = ("classes", "rank", "inputs", "own", "index", "weight", "shift", "expand", "own_weight", "bias")
"""Integers at the start of a task's buffer."""


@dataclass(frozen=True)
class PackedTask:
    """A task, ready to run.

    Attributes:
        program: the layers that its buffer is laid out for.
        buffer: (floats,), with indices as 32-bit integers.
        address: of the buffer.
        classes: C, filled up to a multiple of 8.
    """

    program: Program
    buffer: Tensor
    address: int
    classes: int


def pack(program: Program, delta: Delta) -> PackedTask:
    """Lay out a delta with BatchNorm folded.

    Raises:
        UnsupportedError: its low-rank head is too large.
    """
    own = delta.classifier.weight[:, : delta.classifier.own, 0, 0].t()
    classes = _filled(own.shape[1])
    index, weight = readout_inputs(delta)
    rank = 0 if delta.directions is None else _filled(delta.directions.expand.in_features)
    if rank > INNER:
        raise UnsupportedError(f"{rank} directions")
    tensors = {
        "index": index.int().view(torch.float32),
        "weight": _wide(weight, rank or classes),
        "shift": _wide(readout_shift(delta) if delta.selected_moment_taps() else weight.new_zeros(1), rank or classes),
        "expand": weight.new_zeros(0),
        "own_weight": _wide(own, classes),
        "bias": _wide(own.new_zeros(1) if delta.classifier.bias is None else delta.classifier.bias, classes),
    }
    if delta.directions is not None:
        expand = _wide(delta.directions.expand.weight.t(), classes)
        tensors["expand"] = torch.cat([expand, expand.new_zeros(rank - len(expand), classes)])
    elif delta.selected_moment_taps():
        tensors["bias"] = tensors["bias"] + tensors["shift"]
    layers, offsets = list(task_tensors(delta)), {}
    offset = program.head
    for name, value in tensors.items():
        offsets[name] = offset
        offset += _filled(value.numel(), ALIGNMENT)
    buffer = torch.zeros(offset)
    start = ALIGNMENT
    for value in layers:
        buffer[start : start + value.numel()] = value.reshape(-1)
        start += _filled(value.numel(), ALIGNMENT)
    assert start == program.head, "the layers of the plan are not those of the delta"
    for name, value in tensors.items():
        buffer[offsets[name] : offsets[name] + value.numel()] = value.reshape(-1)
    numbers: Mapping[str, int] = {"classes": classes, "rank": rank, "inputs": len(index), "own": len(own), **offsets}
    buffer[: len(HEAD)] = torch.tensor([numbers[name] for name in HEAD], dtype=torch.int32).view(torch.float32)
    return PackedTask(program, buffer, buffer.data_ptr(), classes)


def _filled(count: int, unit: int = VECTOR) -> int:
    """Round up to a multiple."""
    return -(-count // unit) * unit


def _wide(value: Tensor, width: int) -> Tensor:
    """Fill the last dimension up with zeros: (..., C) -> (..., width)."""
    return torch.nn.functional.pad(value, (0, width - value.shape[-1]))
