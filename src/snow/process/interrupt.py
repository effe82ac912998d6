"""Stopping a run from outside without losing a step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run after a whole step; `signal` is its number.

    If the run keeps a checkpoint, it was saved before this was raised, and `resume=True` goes on from there.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = number

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.signal)


class Interrupt:
    """While it is entered, the first SIGINT or SIGTERM only sets `signal`; so does the death of the parent process.

    A second SIGINT, at least a second later, raises KeyboardInterrupt at once. Outside the main thread of a process
    no signal can be caught, and the signals keep their meaning.

    Args:
        child: this process was started by another of ours, which passes signals on: no SIGINT raises here, and the
            run ends when the parent is gone.
    """

    def __init__(self, child: bool = False) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._child = child
        self._parent = os.getppid()
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        if self._child and self.signal is None and os.getppid() != self._parent:
            self.signal = signal.SIGTERM
        return self.signal is not None

    def __enter__(self) -> Self:
        outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if isinstance(outer, Interrupt):
            self.signal = outer.signal
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = number, now
        elif number == signal.SIGINT and not self._child and now - self._since > 1:
            raise KeyboardInterrupt
