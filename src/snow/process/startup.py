"""Settings of a process that must be made before it imports torch: the allocator, and how OpenMP threads wait.

A network allocates the same large tensors at each pass. glibc returns freed ones to the system, which clears every page
before it hands them out again. On a CPU that can take longer than the arithmetic.

At the end of every operation the OpenMP threads of a network wait for the slowest of them. Spinning is fastest if each
thread has a core of its own. If other processes use the cores too, spinning threads keep the slowest one from running.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

_SETTINGS = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_MAX_": (-4, 0)}
"""Environment variable that glibc reads at start -> its parameter and value for `mallopt(3)`. All memory
comes from the heap, and up to 2 GB that are free at its end stay in the process."""


def keep_freed_memory() -> bool:
    """Keep freed memory in this process, and in those that it starts, to be used for the next allocation.

    The process then holds its peak memory until it ends. The command line calls this. Your own program may call it
    before it makes its first tensor, or set `MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_MMAP_MAX_=0` instead.

    Returns:
        Whether the setting was made. It is not if the C library is not glibc, or if the environment configures the
        allocator already (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = _glibc_function("mallopt")
    if mallopt is None:
        return False
    for variable, (number, value) in _SETTINGS.items():
        mallopt(number, value)
        os.environ[variable] = str(value)
    return True


_ARENA_MAX, ARENAS = -8, 2
"""Parameter of `mallopt(3)`, and how many arenas the threads of a service share."""


def share_arenas() -> None:
    """Let the threads of this process allocate from few arenas. An environment that sets the number is left as it is.

    glibc gives up to 8 threads for each core an arena of their own, over all of which the few objects that stay are
    scattered, so that less can be released. The threads of a service seldom allocate at the same time.
    """
    mallopt = _glibc_function("mallopt")
    if mallopt is not None and not os.environ.keys() & {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}:
        mallopt(_ARENA_MAX, ARENAS)


def release_freed_memory() -> None:
    """Return free memory to the system, so that the size of the process says what it uses."""
    trim = _glibc_function("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc_function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


@contextmanager
def importing() -> Generator[None]:
    """Import modules during the block without looking for garbage, which torch and timm have little of.

    With their hundred thousands of objects the search takes a fifth of the time of their import. What the block has
    made is also left out of later searches.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


SPINS = 4000
"""Iterations that a waiting thread spins before it sleeps. GNU OpenMP, which torch uses on Linux, has 300,000 (its
manual, `GOMP_SPINCOUNT`)."""


def limit_openmp_spinning() -> None:
    """Let waiting OpenMP threads sleep early, in this process and in those that it starts.

    Call it before torch is imported; the command line does. An environment that already configures the waiting
    (`GOMP_SPINCOUNT`, `OMP_WAIT_POLICY`) is left as it is.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
