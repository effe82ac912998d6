"""Threads of a service: which of them computes on how many cores.

Each thread that computes on several cores has OpenMP helper threads of its own. With more of these than cores, all of
them go to sleep at the end of every small operation instead of waiting for the next, and a pass takes up to twice as
long. So the thread of the engine has all cores, and every other thread has one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

_ALL = torch.get_num_threads()


def on_one_core() -> None:
    """Let this thread compute on one core. Call it before the thread computes anything, or its helpers stay."""
    torch.set_num_threads(1)


def on_all_cores() -> None:
    """Let this thread compute on as many cores as the process had at its start."""
    torch.set_num_threads(_ALL)


def engine_executor() -> ThreadPoolExecutor:
    """Create an executor with one thread, on all cores."""
    return ThreadPoolExecutor(1, "snow-engine", on_all_cores)


def worker_executor(name: str, threads: int) -> ThreadPoolExecutor:
    """Create an executor with this many threads, on one core each."""
    return ThreadPoolExecutor(threads, f"snow-{name}", on_one_core)
