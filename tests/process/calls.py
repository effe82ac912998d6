"""Calls that tests make in subprocesses, which can import this file but no test module, and import torch late."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from snow.errors import SnowError
from snow.process.subprocesses import interleaved

MEGABYTE = 2**20


def measure_peak(size: int) -> int:
    """Return the peak, in bytes, that the process measured while it held `size` megabytes."""
    import torch

    from snow.process.memory import PeakMemory

    memory = PeakMemory(torch.device("cpu"))
    block = bytearray(b"x") * (size * MEGABYTE)
    del block
    return memory.bytes


def refuse() -> None:
    raise SnowError("no such thing")


def measure_for_ever(place: Path) -> None:
    """Measure for ever, in a process that writes its id to a file."""
    list(interleaved({"a": partial(sleep_for_ever, place)}, 1))


def sleep_for_ever(place: Path) -> None:
    place.write_text(str(os.getpid()), "utf-8")
    time.sleep(600)
