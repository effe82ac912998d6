"""Requests that end before their answer: at their deadline, when their client is gone, or to make room for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Receive

from snow.serving.errors import RefusedError


class Interruption:
    """Ends the block of `interruptible` from outside."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self.refusal: RefusedError | None = None

    def refuse(self, refusal: RefusedError) -> None:
        """Cancel what the block awaits; the block raises this refusal."""
        if self.refusal is None and not self._timeout.expired():
            self.refusal = refusal
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def make_room(self) -> None:
        """End the request because others need what it holds."""
        self.refuse(RefusedError("queue_full", "too much is waiting: others with less come first", retry_after=1))

    @asynccontextmanager
    async def watch_client(self, receive: Receive) -> AsyncGenerator[None]:
        """End the request when its client disconnects. The body must have been read before."""
        watching = asyncio.create_task(self._wait_for_disconnect(receive))
        try:
            yield
        finally:
            watching.cancel()

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.refuse(RefusedError("disconnected", "the client closed the connection"))


@asynccontextmanager
async def interruptible(seconds: float) -> AsyncGenerator[Interruption]:
    """Run a block that ends after some seconds at the latest, and may be ended before.

    Raises:
        RefusedError: it was ended before its end.
    """
    interruption: Interruption | None = None
    try:
        async with asyncio.timeout(seconds) as timeout:
            interruption = Interruption(timeout)
            yield interruption
    except TimeoutError:
        refusal = interruption.refusal if interruption is not None else None
        raise refusal or RefusedError("deadline", f"no answer within {seconds:g} s") from None
