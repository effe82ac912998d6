"""One replica of the service in simulated time, with the batching policy of `snow.serving.batching`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from snow.serving.limits import Limits


class SimulatedReplica:
    """A discrete-event simulation of one replica; all times in seconds.

    A picture is refused if the queue is full. An accepted picture goes through the event loop, then one of the decoding
    threads, then waits. A pass starts when none is running and the waiting pictures fill a batch, or the first of them
    has waited for `limits.max_wait`; it takes them in order of arrival.

    Args:
        handling: of each picture on the event loop.
        decoding: of each picture on a decoding thread.
        delay: of a running pass, by each arrival.
        seconds: samples the time of a pass of a given batch size.
    """

    def __init__(
        self, limits: Limits, handling: float, decoding: float, delay: float, seconds: Callable[[int], float]
    ) -> None:
        self._size, self._wait, self._capacity = limits.max_batch, limits.max_wait / 1000, limits.queue
        self._deadline, self._decoders = limits.deadline, [0.0] * limits.decoders
        self._handling, self._decoding, self._seconds = handling, decoding, seconds
        self._delay = delay
        self._queue: deque[tuple[float, float]] = deque()  # (arrival, decoded)
        self._batch: list[float] = []  # arrivals of the pictures in the running pass
        self._loop_free, self._turn = 0.0, 0
        self.next_event = inf
        """When the next pass begins or ends."""
        self.occupied = 0
        """Pictures accepted and not answered yet."""
        self.busy = 0.0
        """Seconds spent in passes."""
        self.answered: list[tuple[float, float]] = []
        """(arrival, answer) of each answered picture."""
        self.refused: list[float] = []
        """Arrivals of the pictures that were refused or missed the deadline."""
        self.passes = 0

    def advance_to(self, now: float) -> None:
        """Process all events up to `now`."""
        while self.next_event <= now:
            if self._batch:
                self._end()
            else:
                self._begin()

    def arrive(self, now: float) -> None:
        """Accept or refuse a picture. Call `advance_to(now)` first."""
        if self.occupied >= self._capacity:
            self.refused.append(now)
            return
        self.occupied += 1
        self._loop_free = max(now, self._loop_free) + self._handling
        turn = self._turn
        self._turn = (turn + 1) % len(self._decoders)
        ready = self._decoders[turn] = max(self._loop_free, self._decoders[turn]) + self._decoding
        self._queue.append((now, ready))
        if self._batch:
            self.next_event += self._delay
            self.busy += self._delay
        elif len(self._queue) == 1 or len(self._queue) >= self._size:
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        """Set the time of the next pass from the pictures that wait."""
        if not self._queue:
            self.next_event = inf
            return
        full = self._queue[self._size - 1][1] if len(self._queue) >= self._size else inf
        self.next_event = max(now, min(full, self._queue[0][1] + self._wait))

    def _begin(self) -> None:
        now, queue, arrivals = self.next_event, self._queue, []
        while queue and len(arrivals) < self._size and queue[0][1] <= now:
            arrivals.append(queue.popleft()[0])
        self._batch = [arrival for arrival in arrivals if now - arrival < self._deadline]
        if len(self._batch) < len(arrivals):
            late = [arrival for arrival in arrivals if now - arrival >= self._deadline]
            self.refused += late
            self.occupied -= len(late)
        if not self._batch:
            self._schedule(now)
            return
        duration = self._seconds(len(self._batch))
        self.passes += 1
        self.busy += duration
        self.next_event = now + duration

    def _end(self) -> None:
        now = self.next_event
        for arrival in self._batch:
            if now - arrival <= self._deadline:
                self.answered.append((arrival, now))
            else:
                self.refused.append(arrival)
        self.occupied -= len(self._batch)
        self._batch = []
        self._schedule(now)
