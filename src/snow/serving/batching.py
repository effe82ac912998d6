"""Pictures of many requests become batches, and a queue has an end."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from snow.serving.errors import RefusedError

T = TypeVar("T")

PATIENCE = 60
"""Seconds after which a refused client is told to come back, at most."""

MEMORY = 0.8
"""Weight of the past in the running mean of what a picture takes."""


@dataclass(frozen=True)
class Batched(Generic[T]):
    """What became of one picture: `queued` and `passed` are seconds, `batch` the pictures that shared its pass."""

    answer: T
    queued: float
    passed: float
    batch: int


@dataclass
class _Waiting(Generic[T]):
    image: Tensor
    wanted: Collection[str]
    since: float
    answer: asyncio.Future[Batched[T]]


class Room:
    """The places that one request has in the queue."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.places = 0

    def grow(self, places: int) -> None:
        """To so many places.

        Raises:
            RefusedError: there are not so many.
        """
        if places > self.places:
            self._batcher.take(places - self.places)
            self.places = places


class Batcher(Generic[T]):
    """Hands pictures to `answer` in batches, one at a time, in the order in which they came.

    A batch starts once it is full, or once its first picture has waited long enough. While one is answered the next
    gathers. All of it happens on one event loop.

    Args:
        answer: pictures, and for each the tasks that it is for -> as many results.
        size: pictures in a batch, at most.
        wait: seconds for which the first picture of a batch waits for others.
        bound: places in the queue; a picture has its own from before it is decoded until it is answered.
        seen: told of each batch that was answered.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Tensor], Sequence[Collection[str]]], Awaitable[Sequence[T]]],
        size: int,
        wait: float,
        bound: int,
        seen: Callable[[Sequence[Batched[T]]], None] = lambda batch: None,
    ) -> None:
        self._answer, self._size, self._wait, self._bound, self._seen = answer, size, wait, bound, seen
        self._queue: deque[_Waiting[T]] = deque()
        self._arrived = asyncio.Event()
        self._pace = 0.0
        self.closed = False
        self.taken = 0
        self.since: float | None = None
        """When the pass that is under way began."""

    @property
    def waiting(self) -> int:
        """Pictures that no pass has taken yet."""
        return len(self._queue)

    def take(self, places: int) -> None:
        """Raises RefusedError: there are not so many."""
        if self.taken + places > self._bound:
            seconds = min(PATIENCE, max(1, math.ceil(self.taken * self._pace)))
            raise RefusedError("queue_full", f"{self.taken} pictures are waiting already", retry_after=seconds)
        self.taken += places

    @contextmanager
    def room(self) -> Generator[Room]:
        """Places for a request, which has one from the start.

        Raises:
            RefusedError: there is none, or the service is shutting down.
        """
        if self.closed:
            raise RefusedError("stopping", "the service is shutting down", retry_after=1)
        room = Room(self)
        room.grow(1)
        try:
            yield room
        finally:
            self.taken -= room.places
            self._arrived.set()

    async def ask(self, image: Tensor, wanted: Collection[str]) -> Batched[T]:
        """One picture's answers. A caller that is cancelled takes its picture out of the queue."""
        loop = asyncio.get_running_loop()
        entry = _Waiting[T](image, wanted, loop.time(), loop.create_future())
        self._queue.append(entry)
        self._arrived.set()
        return await entry.answer

    async def run(self) -> None:
        """Answers until `close`, and then what is left."""
        while await self._gather():
            batch = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
            if batch := [entry for entry in batch if not entry.answer.done()]:
                await self._pass(batch)

    def close(self) -> None:
        """Takes no more requests, and lets `run` end when those that were taken are answered."""
        self.closed = True
        self._arrived.set()

    async def _gather(self) -> bool:
        """Until there is a batch. False: there will be none."""
        loop = asyncio.get_running_loop()
        while len(self._queue) < self._size and not (self.closed and self._queue):
            if self.closed and not self.taken:
                return False
            left = self._queue[0].since + self._wait - loop.time() if self._queue else None
            if left is not None and left <= 0:
                break
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                break
        return True

    async def _pass(self, batch: Sequence[_Waiting[T]]) -> None:
        loop = asyncio.get_running_loop()
        self.since = begun = loop.time()
        try:
            answers = await self._answer([entry.image for entry in batch], [entry.wanted for entry in batch])
        except Exception as error:
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)
            return
        finally:
            self.since = None
        passed = loop.time() - begun
        self._pace = MEMORY * self._pace + (1 - MEMORY) * passed / len(batch) if self._pace else passed / len(batch)
        results = [
            Batched(answer, begun - entry.since, passed, len(batch))
            for entry, answer in zip(batch, answers, strict=True)
        ]
        self._seen(results)
        for entry, result in zip(batch, results, strict=True):
            if not entry.answer.done():
                entry.answer.set_result(result)
