"""How much a service takes on."""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from snow.errors import SnowError
from snow.serving.errors import RefusedError


@dataclass(frozen=True)
class Limits:
    """What is too much, and for how long anything is waited for.

    Attributes:
        max_batch: pictures in one pass of the source, at most.
        max_wait: milliseconds for which the first picture of a batch waits for others.
        queue: pictures that may be accepted and not answered yet; what comes on top is refused with 503 at once.
        deadline: seconds from its arrival in which a request is answered or refused with 504.
        max_bytes: of a request for answers.
        max_pixels: of a picture; a larger one is taken for a decompression bomb and never decoded.
        max_pictures: in a request.
        max_upload: bytes of a task that is uploaded, as it comes and unpacked.
        rate: requests a second of each address, on average; 0 for no limit.
        burst: requests that an address which was silent may send at once.
        decoders: threads that decode pictures.
        poll: seconds between two looks at the folder of the hub.

    Raises:
        SnowError: a limit below what lets anything through.
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
    poll: float = 1.0

    def __post_init__(self) -> None:
        whole = ("max_batch", "queue", "max_bytes", "max_pixels", "max_pictures", "max_upload", "burst", "decoders")
        for name in whole:
            if getattr(self, name) < 1:
                raise SnowError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("deadline", "poll"):
            if not 0 < getattr(self, name) <= 86_400:
                raise SnowError(f"{name} is a number of seconds above 0 and up to a day, not {getattr(self, name)}")
        for name in ("max_wait", "rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SnowError(f"{name} is zero or more, not {getattr(self, name)}")
        if self.max_pictures > self.queue:
            raise SnowError(f"a request of {self.max_pictures} pictures never fits in a queue of {self.queue}")


ADDRESSES = 10_000
"""So many are remembered; of more, those that were silent longest start afresh."""


class Rate:
    """Counts requests by address.

    Args:
        rate: requests a second of each address, on average; 0 for no limit.
        burst: requests at once of an address that was silent.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Counts one request. Raises RefusedError: it is one too many."""
        if not self._rate:
            return
        now = self._clock()
        tokens, since = self._buckets.pop(address, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._rate)
        self._buckets[address] = max(0.0, tokens - 1) if tokens >= 1 else tokens, now
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = max(1, math.ceil((1 - tokens) / self._rate))
            raise RefusedError("rate_limited", f"{self._rate:g} requests a second are allowed", retry_after=seconds)


def authorise(request: Request, token: str | None) -> None:
    """Compares the request's `Authorization: Bearer TOKEN` in constant time.

    Raises:
        RefusedError: the service has no token, or the request another one.
    """
    if not token:
        raise RefusedError("management_off", "the service was started without a token: tasks are not changed over HTTP")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise RefusedError("unauthorized", "send the service's token: Authorization: Bearer TOKEN")
