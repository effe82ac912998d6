"""Rows of bytes in memory, or in a file that is mapped into it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.training.recipe import shown_size


class RowStore:
    """`count` rows of `size` bytes, and which of them are there.

    In a folder, `rows.bin` is shared by all processes of a run. Which rows are there each process remembers for itself
    and writes down in `save`, after the rows themselves, so that a file never claims what it has not.

    Args:
        folder: None keeps the rows in memory.
        writer: number of this process.

    Raises:
        SnowError: there is no room for them.
    """

    def __init__(self, folder: Path | None, count: int, size: int, writer: int = 0) -> None:
        self._folder, self._writer = folder, writer
        self._there = torch.zeros(count, dtype=torch.bool)
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
            raise SnowError(f"cannot keep features in {path}: {error.strerror or error}") from None
        self._rows = torch.from_numpy(self._mapped)
        self.refresh()

    @property
    def bytes(self) -> int:
        return self._rows.numel()

    def has(self, rows: Tensor) -> bool:
        """Whether all of these are there."""
        return bool(self._there[rows].all())

    def read(self, rows: Tensor) -> Tensor:
        """(n,) to (n, size)."""
        return self._rows.index_select(0, rows)

    def write(self, rows: Tensor, content: Tensor) -> None:
        """`content`: (n, size)."""
        self._rows[rows] = content.cpu()
        self._there[rows] = True

    def save(self) -> None:
        """What was written so far outlives this process."""
        if self._folder is None or self._mapped is None:
            return
        self._mapped.flush()
        path = self._folder / f"there-{self._writer}.npy"
        draft = path.with_suffix(".part")
        try:
            with open(draft, "wb") as file:
                np.save(file, np.packbits(self._there.numpy()))
            os.replace(draft, path)
        except OSError as error:
            raise SnowError(f"cannot write {path}: {error.strerror or error}") from None

    def refresh(self) -> None:
        """Learns what other processes have saved."""
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("there-*.npy")):
            with suppress(OSError, ValueError):
                bits = np.unpackbits(np.load(path), count=len(self._there)).astype(bool)
                self._there |= torch.from_numpy(bits)


def _require(place: str, size: int, free: int | None) -> None:
    if free is not None and size > free:
        raise SnowError(f"the features take {shown_size(size)}, and {place} has {shown_size(free)} left")


def _allocate(descriptor: int, size: int) -> None:
    """Takes the room now: a map over a hole in a file ends the process when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _available_memory() -> int | None:
    """Bytes, where the system says."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
