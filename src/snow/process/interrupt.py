"""Signals that stop a run after a whole step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(KeyboardInterrupt):
    """Raised when a signal stopped the run after a whole step.

    If the run writes checkpoints, one was saved before this was raised, and `resume=True` continues from it.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = number

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.signal)


class Interrupt:
    """Catch SIGINT and SIGTERM during a block: the first one only sets `signal`.

    A second SIGINT, at least a second later, raises KeyboardInterrupt at once. Signals can be caught in the main thread
    only; in other threads they keep their usual effect.

    Args:
        child: this process was started by another one of the run, which forwards signals. No SIGINT raises here, and
            the death of the parent counts as SIGTERM.
    """

    def __init__(self, child: bool = False) -> None:
        self.signal: int | None = None
        self._signalled_at = 0.0
        self._child = child
        self._parent = os.getppid()
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should stop."""
        if self._child and self.signal is None and os.getppid() != self._parent:
            self.signal = signal.SIGTERM
        return self.signal is not None

    def __enter__(self) -> Self:
        outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if isinstance(outer, Interrupt):
            self.signal = outer.signal
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signalled_at = number, now
        elif number == signal.SIGINT and not self._child and now - self._signalled_at > 1:
            raise KeyboardInterrupt
