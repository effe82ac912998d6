"""The header of a safetensors file: names, types and shapes of its tensors, read before any tensor is allocated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from snow.errors import DamagedError, file_error

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
"""Types of tensors, and the bytes of one number."""

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Floating types, and those of numpy to read them with; numpy has no bfloat16."""

BF16_INFINITY = 0x7F80
"""The bits of a bfloat16's exponent; all are set in NaN and infinity."""

MAX_HEADER = 2**24


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file.

    Attributes:
        dtype: a key of `ITEM_BYTES`.
        start, stop: its bytes, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read the header of a file, by name of the tensor, in the order of their bytes.

    Raises:
        SnowError: the file is missing, or its header does not describe its bytes.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if length > min(MAX_HEADER, size - 8):
                raise DamagedError(f"{path} cannot be read: it is not a safetensors file, or it ends too early")
            return parse_header(file.read(length), size - 8 - length, path)
    except OSError as error:
        raise file_error(f"{path} cannot be read: {error.strerror or error}", error) from error


def header_of(content: bytes, path: Path) -> dict[str, StoredTensor]:
    """Read the header of a whole file. Raises SnowError: it does not describe the bytes behind it."""
    start = _data_start(content)
    if start > len(content):
        raise DamagedError(f"{path} cannot be read: it is not a safetensors file, or it ends too early")
    return parse_header(content[8:start], len(content) - start, path)


def require_finite(content: bytes, stored: Mapping[str, StoredTensor], path: Path) -> None:
    """Raise DamagedError if a number in a whole file is NaN or infinite."""
    for dtype, start, stop in _runs(stored):
        kind: np.dtype[Any] = np.dtype(FLOATS[dtype])
        values = np.frombuffer(content, kind, (stop - start) // kind.itemsize, _data_start(content) + start)
        is_special = np.bitwise_and(values, BF16_INFINITY) == BF16_INFINITY if dtype == "BF16" else ~np.isfinite(values)
        if is_special.any():
            raise DamagedError(f"{path} holds NaN or infinity")


def parse_header(content: bytes, data_bytes: int, path: Path) -> dict[str, StoredTensor]:
    """Parse a header and check that its tensors cover the `data_bytes` behind it without gaps.

    Raises:
        SnowError: it is damaged; `path` is named.
    """
    try:
        entries = json.loads(content)
        entries.pop("__metadata__", None)
        tensors = {name: _tensor(entry) for name, entry in entries.items()}
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read: its header is damaged") from error
    end = 0
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop))
    for name, tensor in ordered:
        if tensor.start != end or tensor.stop - end != prod(tensor.shape) * ITEM_BYTES[tensor.dtype]:
            raise DamagedError(f"{path} cannot be read: tensor {name!r} does not have the bytes of its shape")
        end = tensor.stop
    if end != data_bytes:
        raise DamagedError(f"{path} cannot be read: its header describes {end:,} bytes of {data_bytes:,}")
    return dict(ordered)


def _tensor(entry: dict[str, Any]) -> StoredTensor:
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(entry)
    if entry["dtype"] not in ITEM_BYTES:
        raise ValueError(entry)
    return StoredTensor(entry["dtype"], shape, start, stop)


def _data_start(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def _runs(stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, int, int]]:
    """Join tensors that lie side by side and have one floating type: type, first byte, end. Few runs are fast."""
    run: tuple[str, int, int] | None = None
    for tensor in stored.values():
        if run is not None and run[0] != tensor.dtype:
            yield run
            run = None
        if tensor.dtype in FLOATS:
            run = (tensor.dtype, tensor.start if run is None else run[1], tensor.stop)
    if run is not None:
        yield run
