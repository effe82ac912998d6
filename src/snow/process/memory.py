"""How much memory something took at most."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from snow.process.startup import release_freed_memory

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """From the moment it is made: of the GPU's allocator, or of this process above what it held at that moment.

    A process that was started by a large one is not charged for it: Linux counts `VmHWM` anew when a program starts,
    which `getrusage` does not.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._device = device.type == "cuda", device
        self.restart()
        self._idle = torch.cuda.memory_allocated() if self._cuda else _held("VmRSS")

    def restart(self) -> None:
        """Forgets the peak so far, of what was needed once."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        release_freed_memory()
        with suppress(OSError):
            _RESET.write_text("5")

    @property
    def bytes(self) -> int:
        peak = torch.cuda.max_memory_allocated() if self._cuda else _held("VmHWM")
        return max(0, peak - self._idle)


def _held(field: str) -> int:
    """`VmRSS`, now, or `VmHWM`, at most; where the system does not say, the most that the process has held."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """What this process holds now."""
    release_freed_memory()
    return _held("VmRSS")
