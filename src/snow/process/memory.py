"""The memory of this process, and its peak over a measurement."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from snow.process.startup import release_freed_memory

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measure peak memory since construction: of the GPU's allocator, or of this process, minus the initial usage.

    Linux resets `VmHWM` when a program starts, unlike the value of `getrusage`. So the memory of the process that
    started this one is not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._device = device.type == "cuda", device
        self.restart()
        self._idle = torch.cuda.memory_allocated() if self._cuda else process_memory("VmRSS")

    def restart(self) -> None:
        """Reset the peak, to leave out what was needed only once."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        release_freed_memory()
        with suppress(OSError):
            _RESET.write_text("5")

    @property
    def bytes(self) -> int:
        """Peak in bytes above the initial usage."""
        peak = torch.cuda.max_memory_allocated() if self._cuda else process_memory("VmHWM")
        return max(0, peak - self._idle)


def process_memory(field: str = "VmRSS") -> int:
    """Read `VmRSS` (current) or `VmHWM` (peak) in bytes; the peak of the process where the system has neither."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Measure the current memory of this process in bytes."""
    release_freed_memory()
    return process_memory("VmRSS")


@contextmanager
def without_collection() -> Generator[None]:
    """Pause the garbage collector while many objects are made that stay: it would go through all of them repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
