"""The header of a safetensors file: names, types and shapes of its tensors, read before any tensor is allocated.

Nothing here imports torch, so that a hub with many tasks is listed at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from snow.errors import DamagedError, file_error

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
"""Types of tensors, and the bytes of one number."""

MAX_HEADER = 2**24

MAX_HEADERS, KEPT_HEADER = 64, 2**18
"""Headers that are kept, and their bytes. Tasks of one kind with as many classes have the same."""


class StoredTensor(NamedTuple):
    """One tensor of the file.

    Attributes:
        dtype: a key of `ITEM_BYTES`.
        start, stop: its bytes, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


Header = Mapping[str, StoredTensor]
"""Name -> tensor, in the order of their bytes. Equal headers are one object."""


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        SnowError: the file is missing, or its header does not describe its bytes.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if length > min(MAX_HEADER, size - 8):
                raise _too_short(path)
            return _named(path, file.read(length), size - 8 - length)
    except OSError as error:
        raise file_error(f"{path} cannot be read: {error.strerror or error}", error) from error


def header_of(content: bytes | bytearray, path: Path) -> Header:
    """Read the header of a whole file. Raises SnowError: it does not describe the bytes behind it."""
    start = data_start(content)
    if start > len(content):
        raise _too_short(path)
    return _named(path, bytes(content[8:start]), len(content) - start)


def data_start(content: bytes | bytearray) -> int:
    """Return where the tensors begin in a whole file."""
    return 8 + int.from_bytes(content[:8], "little")


def _named(path: Path, content: bytes, data_bytes: int) -> Header:
    try:
        parse = parse_header if len(content) <= KEPT_HEADER else parse_header.__wrapped__
        return parse(content, data_bytes)
    except DamagedError as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error


@lru_cache(MAX_HEADERS)
def parse_header(content: bytes, data_bytes: int) -> Header:
    """Parse a header and check that its tensors cover the `data_bytes` behind it without gaps.

    Raises:
        SnowError: it is damaged.
    """
    try:
        entries = json.loads(content)
        entries.pop("__metadata__", None)
        tensors = {name: _tensor(entry) for name, entry in entries.items()}
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError("its header is damaged") from error
    end = 0
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop))
    for name, tensor in ordered:
        if tensor.start != end or tensor.stop - end != prod(tensor.shape) * ITEM_BYTES[tensor.dtype]:
            raise DamagedError(f"tensor {name!r} does not have the bytes of its shape")
        end = tensor.stop
    if end != data_bytes:
        raise DamagedError(f"its header describes {end:,} bytes of {data_bytes:,}")
    return MappingProxyType(dict(ordered))


def _tensor(entry: dict[str, Any]) -> StoredTensor:
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    for number in (*shape, start, stop):
        if type(number) is not int or number < 0:
            raise ValueError(entry)
    if entry["dtype"] not in ITEM_BYTES:
        raise ValueError(entry)
    return StoredTensor(entry["dtype"], shape, start, stop)


def _too_short(path: Path) -> DamagedError:
    return DamagedError(f"{path} cannot be read: it is not a safetensors file, or it ends too early")
