"""Measurements in fresh processes, interleaved: peak memory belongs to a process, and a machine's speed drifts."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from snow.errors import SnowError

T = TypeVar("T")


def interleaved(
    calls: Mapping[str, Callable[[], T]], rounds: int, tell: Callable[[str], None] = lambda line: None
) -> Iterator[dict[str, list[T]]]:
    """Make every call once per round, each time in a fresh process, and yield all results so far after each round.

    Args:
        calls: name -> a picklable callable, such as a `functools.partial` of a function of a module.
        rounds: at least 1.
        tell: called with a line of progress before each call.

    Raises:
        SnowError: a call raised it, or its process died.
    """
    results: dict[str, list[T]] = {name: [] for name in calls}
    for number in range(1, rounds + 1):
        for name, call in calls.items():
            tell(f"round {number} of {rounds}: {name} …")
            results[name].append(in_subprocess(name, call))
        yield {name: list(values) for name, values in results.items()}


def in_subprocess(name: str, call: Callable[[], T]) -> T:
    """Make a call in a fresh process and return its result.

    Args:
        name: what an error message says was measured.
        call: a picklable callable.

    Raises:
        SnowError: the call raised it, or its process died.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent) as process:
        try:
            return process.submit(call).result()
        except BrokenProcessPool:
            raise SnowError(
                f"the process that measured {name} died, perhaps because it ran out of memory: use a smaller batch size"
            ) from None


def _end_with_parent() -> None:
    """End this process when its parent dies, so that no measurement runs on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
