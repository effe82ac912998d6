"""Where a run computes. Nothing here changes what is learned, apart from the rounding of another device."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from snow.errors import SnowError
from snow.process.devices import check_device_name

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Bytes by unit."""


@dataclass(frozen=True)
class Runtime:
    """Where and how a run computes. A stopped run may be resumed with another one, apart from `devices`.

    Attributes:
        workers: processes that load pictures, for each training process; by default one for each spare core, at most 8.
        devices: training processes that share each batch, one for each GPU or group of CPU cores.
        accelerator: auto, cpu, cuda, mps, or one GPU of several, such as cuda:1.
        checkpoint_seconds: longest time between two checkpoints; there is always one at the end of an epoch.
        cache: a size such as 4GB: keep the source's features of the training pictures within this size, so that the
            source runs only once for each view of a picture. The choice of channels is then frozen after calibration.
        cache_dir: folder for the cached features, which other runs may use too; by default they go with the run.

    Raises:
        SnowError: a value is outside its range. The message gives the name and the range.
    """

    workers: int | None = None
    devices: int = 1
    accelerator: str = "auto"
    checkpoint_seconds: float = 60.0
    cache: str | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise SnowError(f"workers must be zero or more, or None, not {self.workers}")
        if self.devices < 1:
            raise SnowError(f"devices must be at least 1, not {self.devices}")
        check_device_name(self.accelerator, "accelerator")
        if ":" in self.accelerator and self.devices > 1:
            raise SnowError(f"{self.accelerator} is one device: leave out its number to use {self.devices}")
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise SnowError(f"checkpoint_seconds must be zero or more, not {self.checkpoint_seconds}")
        if self.cache is not None:
            parse_size(self.cache)

    def loading_workers(self, processes: int = 1) -> int:
        """Return the number of loading processes of each of `processes` training processes on this machine."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(0, cores // processes - 1))


def parse_size(text: str) -> int:
    """Convert `4GB`, `500 MB` or a plain number to bytes.

    Raises:
        SnowError: the text is not a size, or the size is zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b?)\s*", text, re.IGNORECASE)
    unit = match.group(2).upper() if match else ""
    size = round(float(match.group(1)) * UNITS[unit if unit[-1:] in ("", "B") else f"{unit}B"]) if match else 0
    if size < 1:
        raise SnowError(f"{text!r} is not a size: write 4GB or 500MB")
    return size


def format_size(size: int) -> str:
    """Format a number of bytes with three digits and a unit."""
    unit = max((name for name in UNITS if UNITS[name] <= max(1, size)), key=lambda name: (UNITS[name], len(name)))
    return f"{size / UNITS[unit]:.3g} {unit}"
