"""One service in simulated time, with the policy of `snow.serving.batching`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from snow.serving.limits import Limits


class Replica:
    """Answers pictures that come one at a time; seconds throughout.

    A picture is refused if all places are taken, from its arrival to its answer. What is accepted passes the event
    loop, then one of the decoding threads, then waits. A pass starts when none is under way and the waiting pictures
    fill a batch or the first of them has waited long enough; it takes them in the order in which they came.

    Args:
        handling: on the event loop, for each picture.
        decoding: on a decoding thread, for each picture.
        shared: whether the pass stands still meanwhile.
        seconds: what a pass of so many pictures takes.
    """

    def __init__(
        self, limits: Limits, handling: float, decoding: float, shared: bool, seconds: Callable[[int], float]
    ) -> None:
        self._size, self._wait, self._bound = limits.max_batch, limits.max_wait / 1000, limits.queue
        self._deadline, self._decoders = limits.deadline, [0.0] * limits.decoders
        self._handling, self._decoding, self._seconds = handling, decoding, seconds
        self._stolen = handling + decoding if shared else 0.0
        self._queue: deque[tuple[float, float]] = deque()  # when it came, and when it is ready
        self._batch: list[float] = []  # when each picture under way came
        self._loop_free, self._turn = 0.0, 0
        self.next = inf
        """When something happens by itself: a pass begins or ends."""
        self.taken = 0
        self.busy = 0.0
        """Spent in passes."""
        self.answered: list[tuple[float, float]] = []
        """When it came and when it was answered."""
        self.refused: list[float] = []
        """When those came that were turned away, or had no answer within the deadline."""
        self.passes = 0

    def until(self, now: float) -> None:
        """Lets happen what happens up to a moment."""
        while self.next <= now:
            if self._batch:
                self._end()
            else:
                self._begin()

    def arrive(self, now: float) -> None:
        """A picture comes. `until` has been called for this moment."""
        if self.taken >= self._bound:
            self.refused.append(now)
            return
        self.taken += 1
        self._loop_free = max(now, self._loop_free) + self._handling
        turn = self._turn
        self._turn = (turn + 1) % len(self._decoders)
        ready = self._decoders[turn] = max(self._loop_free, self._decoders[turn]) + self._decoding
        self._queue.append((now, ready))
        if self._batch:
            self.next += self._stolen
            self.busy += self._stolen
        elif len(self._queue) == 1 or len(self._queue) >= self._size:
            self._plan(now)

    def _plan(self, now: float) -> None:
        """When the next pass begins, as far as is known."""
        if not self._queue:
            self.next = inf
            return
        full = self._queue[self._size - 1][1] if len(self._queue) >= self._size else inf
        self.next = max(now, min(full, self._queue[0][1] + self._wait))

    def _begin(self) -> None:
        now, queue, taken = self.next, self._queue, []
        while queue and len(taken) < self._size and queue[0][1] <= now:
            taken.append(queue.popleft()[0])
        self._batch = [came for came in taken if now - came < self._deadline]
        if len(self._batch) < len(taken):
            late = [came for came in taken if now - came >= self._deadline]
            self.refused += late
            self.taken -= len(late)
        if not self._batch:
            self._plan(now)
            return
        took = self._seconds(len(self._batch))
        self.passes += 1
        self.busy += took
        self.next = now + took

    def _end(self) -> None:
        now = self.next
        for came in self._batch:
            if now - came <= self._deadline:
                self.answered.append((came, now))
            else:
                self.refused.append(came)
        self.taken -= len(self._batch)
        self._batch = []
        self._plan(now)
