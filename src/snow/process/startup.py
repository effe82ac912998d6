"""Settings that a process needs before it imports torch: what freed memory becomes, how threads wait.

A network asks for the same large tensors at each pass. glibc gives them back to the system when they are freed, which
then clears every page anew before they are used again: on a CPU that can take longer than the arithmetic.

At the end of every operation of a network its threads wait for the last of them. As long as each has a core of its own,
spinning is fastest. Where another process wants the cores, those who spin keep from them the one that all wait for.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_SETTINGS = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_MAX_": (-4, 0)}
"""By the variable that a program reads when it starts: number and value for `mallopt`, see its manual page. All comes
from the heap, and up to 2 GB that are free at its end stay there."""


def keep_freed_memory() -> bool:
    """Keeps what is freed in this process, and in those that it starts from now on, for what is asked for next.

    A process then holds the most that it ever needed. The command line does it; a program of one's own may, before it
    makes its first tensor, or set the variables `MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_MMAP_MAX_=0` instead.

    Returns whether it does so: not where the C library is another one than glibc, nor where the environment says
    already what is to become of freed memory (`MALLOC_…`, `GLIBC_TUNABLES`).
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    for variable, (number, value) in _SETTINGS.items():
        mallopt(number, value)
        os.environ[variable] = str(value)
    return True


def release_freed_memory() -> None:
    """Gives what is free now back to the system: before one asks how much a process holds."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


SPINS = 4000
"""Times round the loop, where GNU's OpenMP, which torch uses on Linux, takes 300,000 (its manual, `GOMP_SPINCOUNT`)."""


def limit_openmp_spinning() -> None:
    """For this process, and those that it starts from now on; to be called before torch is imported.

    The command line does it. Nothing is changed where the environment says already how to wait (`GOMP_SPINCOUNT`,
    `OMP_WAIT_POLICY`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
