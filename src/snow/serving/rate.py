"""How often an address may ask: a bucket of tokens that fills by itself."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from snow.serving.errors import RefusedError

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
