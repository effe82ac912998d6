"""What tests let processes of their own do: a process can import this, but no test module."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import torch

from snow.errors import SnowError
from snow.process.memory import PeakMemory
from snow.process.subprocesses import interleaved

MEGABYTE = 2**20


def held(size: int) -> tuple[int, int]:
    """The process, and the peak that it saw while it held so many megabytes."""
    memory = PeakMemory(torch.device("cpu"))
    block = bytearray(b"x") * (size * MEGABYTE)
    del block
    return os.getpid(), memory.bytes


def refuse() -> None:
    raise SnowError("no such thing")


def want(place: Path) -> None:
    """Measures for ever, in a process that writes its number to a file."""
    list(interleaved({"a": partial(linger, place)}, 1))


def linger(place: Path) -> None:
    place.write_text(str(os.getpid()), "utf-8")
    time.sleep(600)
