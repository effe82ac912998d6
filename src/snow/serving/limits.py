"""Limits of a service: sizes, times, and requests per address."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from snow.errors import SnowError
from snow.serving.errors import RefusedError
from snow.serving.fairness import client_at

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Limits on sizes, times and load.

    Attributes:
        max_batch: largest number of pictures in one pass of the source.
        max_wait: milliseconds that the first picture of a batch waits for others.
        queue: pictures that are accepted but not answered; further ones are refused at once with 503.
        deadline: seconds after which a request that is not answered is refused with 504.
        max_bytes: largest body of a request for predictions.
        max_pixels: largest picture; a larger one counts as a decompression bomb and is not decoded.
        max_pictures: pictures in one request.
        max_upload: bytes of an uploaded task, both packed and unpacked.
        rate: requests per second from one address, on average; 0 for no limit.
        burst: requests that one address may send at once.
        decoders: processes that decode pictures, and half as many for those that take long.
        decode_time: seconds of processor time for decoding a picture with max_pixels; a smaller one may take less.
        max_bodies: bytes of all requests for predictions that are read or wait; beyond it, the largest is refused.
        max_connections: open connections; beyond it, the one that has been idle longest is closed.
        header_time: seconds after which a connection without a complete request is closed.
        poll: seconds between two checks of the hub's folder for changes.

    Raises:
        SnowError: a limit is too low for any request to pass.
    """

    max_batch: int = 16
    max_wait: float = 4.0
    queue: int = 256
    deadline: float = 10.0
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_pictures: int = 64
    max_upload: int = 512 * 2**20
    rate: float = 0.0
    burst: int = 20
    decoders: int = 2
    decode_time: float = 5.0
    max_bodies: int = 256 * 2**20
    max_connections: int = 1000
    header_time: float = 10.0
    poll: float = 1.0

    def __post_init__(self) -> None:
        sizes = ("max_batch", "max_bytes", "max_pixels", "max_pictures", "max_upload", "max_bodies")
        for name in (*sizes, "queue", "burst", "decoders", "max_connections"):
            if getattr(self, name) < 1:
                raise SnowError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("deadline", "poll", "decode_time", "header_time"):
            if not 0 < getattr(self, name) <= 86_400:
                raise SnowError(
                    f"{name} must be a number of seconds above 0 and up to a day, not {getattr(self, name)}"
                )
        for name in ("max_wait", "rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SnowError(f"{name} must be zero or more, not {getattr(self, name)}")
        if self.max_pictures > self.queue:
            raise SnowError(f"a request of {self.max_pictures} pictures never fits in a queue of {self.queue}")
        if self.max_bytes > self.max_bodies:
            raise SnowError(f"a body of max_bytes {self.max_bytes:,} never fits in max_bodies {self.max_bodies:,}")


MAX_ADDRESSES = 10_000
"""Addresses that are remembered; beyond that, the one that was silent longest is forgotten."""


class RateLimiter:
    """Limits requests per address with a token bucket.

    Args:
        rate: requests per second from one address, on average; 0 for no limit.
        burst: requests that one address may send at once.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Return whether `check` would pass, and count nothing."""
        return not self._rate or self._tokens(address, self._clock()) >= 1

    def _tokens(self, address: str, now: float) -> float:
        tokens, since = self._buckets.get(address, (float(self._burst), now))
        return min(float(self._burst), tokens + (now - since) * self._rate)

    def check(self, address: str) -> None:
        """Count one request. Raises RefusedError: it is one too many."""
        if not self._rate:
            return
        now = self._clock()
        tokens = self._tokens(address, now)
        self._buckets.pop(address, None)
        self._buckets[address] = max(0.0, tokens - 1) if tokens >= 1 else tokens, now
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = max(1, math.ceil((1 - tokens) / self._rate))
            raise RefusedError("rate_limited", f"{self._rate:g} requests a second are allowed", retry_after=seconds)


async def limit_rate(request: Request) -> None:
    """Count a request for its client, before its route runs. Raises RefusedError: it is one too many."""
    request.app.state.rate_limiter.check(client_at(request.client.host if request.client else ""))


MAX_DESCRIBING = 100
"""Descriptions that may wait; clients may be gone that asked for them."""
REST = 3.0
"""Pause after a description, in multiples of the time that it took: the event loop has to wait for threads that run
Python."""


@dataclass(eq=False)
class _Description:
    """A description that is being made, or waits to be."""

    result: asyncio.Future[Any] | None = None
    is_begun: bool = False


class Describer:
    """Runs functions that describe things to clients, one at a time, for a quarter of the time and not too many.

    Clients that ask for the same thing share a description that is begun after they have asked.

    Args:
        executor: runs them, in one thread.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor, self._running = executor, 0
        self._rest_until = 0.0
        self._latest: dict[Hashable, _Description] = {}

    async def run(self, thing: Hashable, describe: Callable[[], T]) -> T:
        """Run a function that describes a thing. Raises RefusedError: too many wait already."""
        description = self._latest.get(thing)
        if description is None or description.is_begun:
            description = self._start(thing, describe)
        assert description.result is not None
        return await asyncio.shield(description.result)

    def _start(self, thing: Hashable, describe: Callable[[], T]) -> _Description:
        def call() -> T:
            time.sleep(max(0.0, self._rest_until - time.monotonic()))
            description.is_begun = True
            started = time.monotonic()
            try:
                return describe()
            finally:
                ended = time.monotonic()
                self._rest_until = ended + REST * (ended - started)

        def finish(future: asyncio.Future) -> None:
            self._running -= 1
            if self._latest.get(thing) is description:
                del self._latest[thing]
            if not future.cancelled():
                future.exception()  # nobody may wait for it any more

        if self._running >= MAX_DESCRIBING:
            raise RefusedError("queue_full", "too many descriptions are being made", retry_after=1)
        self._running += 1
        description = self._latest[thing] = _Description()
        description.result = asyncio.get_running_loop().run_in_executor(self._executor, call)
        description.result.add_done_callback(finish)
        return description
