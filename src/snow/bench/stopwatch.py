"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import nn


class Stopwatch:
    """Adds up seconds by name. A device is waited for on either side, so phases that would overlap stand apart.

    Args:
        wait: returns when the device is done.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait
        self._started = 0.0

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self._add(name, time.perf_counter() - started)

    def follow(self, module: nn.Module, name: str) -> None:
        """Counts the time of a module's forward."""
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(lambda *_: self._stop(name))

    def _start(self, *_: object) -> None:
        self._wait()
        self._started = time.perf_counter()

    def _stop(self, name: str) -> None:
        self._wait()
        self._add(name, time.perf_counter() - self._started)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
