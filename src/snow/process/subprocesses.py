"""Measurements in processes of their own, in turn: memory is a process's, and a machine's speed drifts."""

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
    """Makes every call once a round, each time in a fresh process. Yields what came back so far after each round.

    Args:
        calls: name -> what a process can be given, such as a `functools.partial` of a function of a module.
        rounds: at least one.
        tell: hears of each call before it is made.

    Raises:
        SnowError: as a call raised it, or its process died.
    """
    found: dict[str, list[T]] = {name: [] for name in calls}
    for number in range(1, rounds + 1):
        for name, call in calls.items():
            tell(f"round {number} of {rounds}: {name} …")
            found[name].append(in_subprocess(name, call))
        yield {name: list(results) for name, results in found.items()}


def in_subprocess(name: str, call: Callable[[], T]) -> T:
    """Makes a call in a fresh process.

    Args:
        name: what an error says was measured.
        call: as for `interleaved`.

    Raises:
        SnowError: as `interleaved`.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent) as process:
        try:
            return process.submit(call).result()
        except BrokenProcessPool:
            raise SnowError(
                f"the process that measured {name} died, perhaps for want of memory: use a smaller batch size"
            ) from None


def _end_with_parent() -> None:
    """In the process: so that one that was killed leaves none behind that measures on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
