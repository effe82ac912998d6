"""Batching: where a batch is cut, and where the queue in front of the engine ends.

`Batcher.run` cuts a batch as soon as it is full, or as soon as its first picture has waited long enough. A picture has
its place in the queue from before it is decoded until it is answered; a request that finds no place is refused. Order
and places are fair to clients.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from snow.serving.errors import RefusedError
from snow.serving.fairness import FairBudget, FairQueue, Holding, Owner

T = TypeVar("T")

MAX_RETRY_AFTER = 60
"""Longest `Retry-After` of a refusal, in seconds."""

MOMENTUM = 0.8
"""Weight of the past in the running mean of the seconds per picture."""


@dataclass(frozen=True)
class BatchResult(Generic[T]):
    """The answer to one picture, and how its batch went.

    Attributes:
        queue_seconds: from its submission to the start of its batch.
        engine_seconds: the engine's time for the batch.
        batch_size: pictures in the batch.
    """

    answer: T
    queue_seconds: float
    engine_seconds: float
    batch_size: int


@dataclass
class _Pending(Generic[T]):
    """A picture that waits for a batch."""

    image: Tensor
    tasks: Collection[str]
    submitted: float
    result: asyncio.Future[BatchResult[T]]


class Reservation:
    """The places in the queue that one request holds."""

    def __init__(self, batcher: Batcher, holding: Holding) -> None:
        self._batcher, self._holding = batcher, holding

    def extend(self, places: int) -> None:
        """Hold this many places more. Raises RefusedError: the queue is full."""
        if not self._holding.take(places):
            raise self._batcher._full()


class Batcher(Generic[T]):
    """Collects pictures of many requests into batches and hands them to the engine one batch at a time, in order.

    While the engine computes, the next batch gathers. Everything here runs on one event loop.

    Args:
        predict: answers a batch: pictures, and for each the names of its tasks -> one answer for each picture.
        max_batch: pictures in a batch.
        max_wait: seconds that the first picture of a batch waits for others.
        capacity: places in the queue.
        on_batch: is called with the results of each batch.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Tensor], Sequence[Collection[str]]], Awaitable[Sequence[T]]],
        max_batch: int,
        max_wait: float,
        capacity: int,
        on_batch: Callable[[Sequence[BatchResult[T]]], None] = lambda results: None,
    ) -> None:
        self._predict, self._on_batch = predict, on_batch
        self._max_batch, self._max_wait = max_batch, max_wait
        self._queue: FairQueue[_Pending[T]] = FairQueue()
        self._places = FairBudget(capacity)
        self._changed = asyncio.Event()
        self._seconds_per_picture = 0.0
        self.closed = False
        self.started: float | None = None
        """When the batch that the engine computes now was started; None if there is none."""

    @property
    def waiting(self) -> int:
        """Number of pictures that no batch has taken yet."""
        return len(self._queue)

    @property
    def reserved(self) -> int:
        """Places in the queue that requests hold."""
        return self._places.used

    @contextmanager
    def reserve(self, owner: Owner, evict: Callable[[], None]) -> Generator[Reservation]:
        """Announce a request, and give its places back at the end of the block.

        Args:
            evict: is called if the places are given to clients with fewer.

        Raises:
            RefusedError: the queue is full, or the service is shutting down.
        """
        if self.closed:
            raise RefusedError("stopping", "the service is shutting down", retry_after=1)
        try:
            with self._places.hold(owner, evict) as holding:
                if not holding.may_take(1):
                    raise self._full()
                yield Reservation(self, holding)
        finally:
            self._changed.set()

    async def submit(self, image: Tensor, tasks: Collection[str], owner: Owner) -> BatchResult[T]:
        """Queue a picture and wait for its answer. A caller that is cancelled takes its picture out of the queue."""
        loop = asyncio.get_running_loop()
        pending = _Pending[T](image, tasks, loop.time(), loop.create_future())
        self._queue.push(pending, owner)
        self._changed.set()
        return await pending.result

    async def run(self) -> None:
        """Cut and answer batches until `close`, and then answer what is left."""
        while await self._batch_is_due():
            batch = [self._queue.pop() for _ in range(min(self._max_batch, len(self._queue)))]
            if batch := [pending for pending in batch if not pending.result.done()]:
                await self._answer(batch)

    def close(self) -> None:
        """Accept no more requests; `run` ends when those that were accepted are answered."""
        self.closed = True
        self._changed.set()

    def _full(self) -> RefusedError:
        seconds = min(MAX_RETRY_AFTER, max(1, math.ceil(self.reserved * self._seconds_per_picture)))
        return RefusedError("queue_full", f"{self.reserved} pictures are waiting already", retry_after=seconds)

    async def _batch_is_due(self) -> bool:
        """Wait until a batch is full or its first picture has waited long enough; False if there will be no more."""
        loop = asyncio.get_running_loop()
        while len(self._queue) < self._max_batch and not (self.closed and self._queue):
            if self.closed and not len(self._places):
                return False
            oldest = min((pending.submitted for pending in self._queue), default=None)
            timeout = None if oldest is None else oldest + self._max_wait - loop.time()
            if timeout is not None and timeout <= 0:
                break
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                break
        return True

    async def _answer(self, batch: Sequence[_Pending[T]]) -> None:
        loop = asyncio.get_running_loop()
        self.started = started = loop.time()
        try:
            answers = await self._predict([pending.image for pending in batch], [pending.tasks for pending in batch])
        except Exception as error:
            for pending in batch:
                if not pending.result.done():
                    pending.result.set_exception(error)
            return
        finally:
            self.started = None
        seconds = loop.time() - started
        latest = seconds / len(batch)
        previous = self._seconds_per_picture or latest
        self._seconds_per_picture = MOMENTUM * previous + (1 - MOMENTUM) * latest
        results = [
            BatchResult(answer, started - pending.submitted, seconds, len(batch))
            for pending, answer in zip(batch, answers, strict=True)
        ]
        self._on_batch(results)
        for pending, result in zip(batch, results, strict=True):
            if not pending.result.done():
                pending.result.set_result(result)
