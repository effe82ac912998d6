"""The values of a safetensors file: read at once, each at an address as torch allocates it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.hub.tensor_file import Header, StoredTensor, data_start

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}
"""Types in a safetensors file -> types of torch."""

ALIGNMENT = 64
"""Bytes that addresses of tensors are multiples of. Elsewhere some kernels sum up in another order, and the last bits
of an answer are others than before the task was saved."""

Run = dict[str, StoredTensor]
"""Tensors of one type that lie side by side."""


def read_tensors(content: bytearray, header: Header, path: Path) -> dict[str, Tensor]:
    """Make the tensors of a whole file.

    Raises:
        DamagedError: a number is NaN or infinite.
    """
    tensors: dict[str, Tensor] = {}
    for run in _runs(header):
        values = _values(content, run)
        if values.is_floating_point() and not values.isfinite().all():
            raise DamagedError(f"{path} holds NaN or infinity")
        parts = values.split([prod(tensor.shape) for tensor in run.values()])
        for (name, tensor), part in zip(run.items(), parts, strict=True):
            tensors[name] = (part if part.data_ptr() % ALIGNMENT == 0 else part.clone()).view(tensor.shape)
    return tensors


def _values(content: bytearray, run: Run) -> Tensor:
    """Make one tensor of a run: (n,)."""
    first, *_, last = *run.values(), *run.values()
    dtype, start = DTYPES[first.dtype], data_start(content) + first.start
    count = (last.stop - first.start) // dtype.itemsize
    if not count:
        return torch.empty(0, dtype=dtype)
    if start % dtype.itemsize:  # other programs may write such files
        piece = torch.frombuffer(content, dtype=torch.uint8, count=count * dtype.itemsize, offset=start)
        return piece.clone().view(dtype)
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start)


def _runs(header: Header) -> Iterator[Run]:
    run: Run = {}
    dtype = ""
    for name, tensor in header.items():
        if run and tensor.dtype != dtype:
            yield run
            run = {}
        run[name], dtype = tensor, tensor.dtype
    if run:
        yield run
