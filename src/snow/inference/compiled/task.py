"""The tensors of one task in one buffer, as `delta.c` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snow.delta import Delta
from snow.inference.compiled.program import INNER, MAX_INPUTS, VECTOR, Program, UnsupportedError, task_tensors
from snow.inference.readout import ReadoutWeights

ALIGNMENT = 16
"""Each tensor begins at a multiple of so many floats."""

HEAD = (
    "classes",
    "rank",
    "inputs",
    "own",
    "index",
    "scale",
    "centre",
    "gain",
    "weight",
    "expand",
    "own_weight",
    "bias",
)
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


def pack(program: Program, delta: Delta | None, readout: ReadoutWeights) -> PackedTask:
    """Lay out a delta with BatchNorm folded, and what reads it out.

    Raises:
        UnsupportedError: its low-rank head is too large.
    """
    classes = _filled(readout.own.shape[1])
    rank = 0 if readout.expand is None else _filled(len(readout.expand))
    if rank > INNER or len(readout.index) > MAX_INPUTS:
        raise UnsupportedError(f"{rank} directions of {len(readout.index)} inputs")
    tensors = {
        "index": readout.index.int().view(torch.float32),
        "scale": readout.scale,
        "centre": readout.centre,
        "gain": readout.gain,
        "weight": _wide(readout.weight, rank or classes),
        "expand": readout.bias.new_zeros(0),
        "own_weight": _wide(readout.own, classes),
        "bias": _wide(readout.bias, classes),
    }
    if readout.expand is not None:
        expand = _wide(readout.expand, classes)
        tensors["expand"] = torch.cat([expand, expand.new_zeros(rank - len(expand), classes)])
    layers, offsets = [] if delta is None else list(task_tensors(delta)), {}
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
    numbers: Mapping[str, int] = {
        "classes": classes,
        "rank": rank,
        "inputs": len(readout.index),
        "own": len(readout.own),
        **offsets,
    }
    buffer[: len(HEAD)] = torch.tensor([numbers[name] for name in HEAD], dtype=torch.int32).view(torch.float32)
    return PackedTask(program, buffer, buffer.data_ptr(), classes)


def _filled(count: int, unit: int = VECTOR) -> int:
    """Round up to a multiple."""
    return -(-count // unit) * unit


def _wide(value: Tensor, width: int) -> Tensor:
    """Fill the last dimension up with zeros: (..., C) -> (..., width)."""
    return torch.nn.functional.pad(value, (0, width - value.shape[-1]))
