"""Rows of bytes, in memory or in a memory-mapped file."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snow.errors import NoSpaceError, file_error
from snow.training.runtime import format_size


class RowStore:
    """Stores `count` rows of `size` bytes, and which of them are filled.

    In a folder, `rows.bin` is shared by all processes of a run. Each process keeps its own list of the rows that it
    filled, and `save` writes it after the rows, so that a list on disk never names a row that was lost.

    Args:
        folder: None keeps the rows in memory.
        count: number of rows.
        size: bytes of a row.
        writer: number of this process.

    Raises:
        NoSpaceError: there is not enough memory, or room on the disk.
        SnowError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None, count: int, size: int, writer: int = 0) -> None:
        self._folder, self._writer = folder, writer
        self._filled = torch.zeros(count, dtype=torch.bool)
        if folder is None:
            _require("memory", count * size, _available_memory())
            self._rows = torch.empty(count, size, dtype=torch.uint8)
            self._mapped = None
            return
        path = folder / "rows.bin"
        missing = count * size - (path.stat().st_size if path.exists() else 0)
        _require(f"the disk of {folder}", missing, shutil.disk_usage(folder).free)
        try:
            with open(path, "ab") as file:
                _allocate(file.fileno(), count * size)
            self._mapped = np.memmap(path, np.uint8, "r+", shape=(count, size))
        except OSError as error:
            raise file_error(f"cannot keep features in {path}: {error.strerror or error}", error) from None
        self._rows = torch.from_numpy(self._mapped)
        self.refresh()

    @property
    def bytes(self) -> int:
        return self._rows.numel()

    def has(self, rows: Tensor) -> bool:
        """Whether all of these rows are filled: (n,)."""
        return bool(self._filled[rows].all())

    def read(self, rows: Tensor) -> Tensor:
        """Read rows: (n,) -> (n, size)."""
        return self._rows.index_select(0, rows)

    def write(self, rows: Tensor, content: Tensor) -> None:
        """Write rows: (n,) and (n, size)."""
        self._rows[rows] = content.cpu()
        self._filled[rows] = True

    def save(self) -> None:
        """Write to disk what was filled so far."""
        if self._folder is None or self._mapped is None:
            return
        self._mapped.flush()
        path = self._folder / f"there-{self._writer}.npy"
        draft = path.with_suffix(".part")
        try:
            with open(draft, "wb") as file:
                np.save(file, np.packbits(self._filled.numpy()))
            os.replace(draft, path)
        except OSError as error:
            raise file_error(f"cannot write {path}: {error.strerror or error}", error) from None

    def refresh(self) -> None:
        """Read which rows other processes have saved."""
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("there-*.npy")):
            with suppress(OSError, ValueError):
                bits = np.unpackbits(np.load(path), count=len(self._filled)).astype(bool)
                self._filled |= torch.from_numpy(bits)


def _require(place: str, size: int, free: int | None) -> None:
    if free is not None and size > free:
        raise NoSpaceError(f"the features take {format_size(size)}, and {place} has {format_size(free)} left")


def _allocate(descriptor: int, size: int) -> None:
    """Allocate the file now: writing to a mapped hole in a file kills the process when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _available_memory() -> int | None:
    """Return the available bytes, or None where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
