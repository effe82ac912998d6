"""A clock that a test turns, and waiting for what will happen: nothing here depends on the speed of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Clock:
    """The clock of the running event loop, which deadlines go by. It can be turned: not as far as `wait` waits."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.turned, now = 0.0, loop.time
        loop.time = lambda: now() + self.turned  # ty: ignore[invalid-assignment]

    def turn(self, seconds: float) -> None:
        self.turned += seconds


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)
