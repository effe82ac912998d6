"""Who computes on how many cores while a service runs.

Each thread that computes on several cores has helpers of its own (OpenMP). Where there are more of these than cores,
all of them go to sleep at the end of every small operation in place of waiting for the next, and a pass takes up to
twice as long. So one thread has all cores, that of the passes, and each of the others one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

_ALL = torch.get_num_threads()


def on_one_core() -> None:
    """From here on this thread computes on one core: before it has computed on more, or its helpers stay."""
    torch.set_num_threads(1)


def on_all_cores() -> None:
    """From here on this thread computes on as many cores as this process had at first."""
    torch.set_num_threads(_ALL)


def passing() -> ThreadPoolExecutor:
    """One thread, on all cores."""
    return ThreadPoolExecutor(1, "snow-engine", on_all_cores)


def others(name: str, count: int) -> ThreadPoolExecutor:
    """So many threads, on one core each."""
    return ThreadPoolExecutor(count, f"snow-{name}", on_one_core)
