"""Sees what other processes do to the folder of a hub."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from snow.data import eval_transform
from snow.errors import SnowError
from snow.hub import Hub
from snow.hub.hub import read_selection_history, store_of
from snow.inference.prediction import SOURCE_HEAD
from snow.process.threads import others, passing
from snow.serving.batching import Batched, Batcher
from snow.serving.details import describe_selection
from snow.serving.errors import RefusedError, without_paths
from snow.serving.limits import Limits
from snow.serving.metrics import Metrics
from snow.serving.requests import Question, prepare
from snow.serving.uploads import full
from snow.serving.worker import Answers, Catalog, Ranked, Worker
from snow.store import Stamp

log = logging.getLogger("snow.serving")


def stamps(hub: Path) -> dict[str, Stamp]:
    """Of all tasks; two are equal if nothing has changed between them."""
    store = store_of(hub)
    found = {}
    for name in store.names():
        try:
            found[name] = store.stamp(name)
        except SnowError:  # a folder whose name no task can have
            found[name] = ()
    return found


async def watch(hub: Path, seconds: float, changed: Callable[[], Awaitable[object]]) -> None:
    """Calls `changed` after each change, for as long as it is let. It looks, and reads no file."""
    before: dict[str, Stamp] | None = None
    while True:
        try:
            now = await asyncio.to_thread(stamps, hub)
            if now != before:
                await changed()
            before = now
        except OSError as error:
            log.warning("hub %s cannot be looked at: %s", hub, error)
        await asyncio.sleep(seconds)


P = ParamSpec("P")
T = TypeVar("T")

STUCK = 60
"""Seconds after which a pass that has not ended counts as one that never will."""


@dataclass(frozen=True)
class Reply:
    """For each picture what the tasks answer, those that could not, and where the time went, in seconds."""

    pictures: tuple[dict[str, Ranked], ...]
    left_out: dict[str, str]
    decoding: float
    queued: float
    passed: float
    batch: int


class Service:
    """Three kinds of threads beside the event loop: one for passes, one that changes the hub, some that decode.

    Each of the first two has a `Hub` of its own over the same folder and the same source, since a hub is used by one
    thread at a time; what one changes the other sees as it would see another process.
    """

    def __init__(self, hub: Hub, limits: Limits | None = None, device: str = "cpu") -> None:
        self.hub, self.limits, self.metrics = hub, limits or Limits(), Metrics()
        self.catalog = Catalog()
        self.ready = False
        self._worker = Worker(Hub(hub.path, hub.source, hub.engine.name), device)
        self._transform = eval_transform(hub.source.preprocessing)
        self._open()
        self._engine.submit(self._worker.get_ready).result()
        self.metrics.watch("snow_queue_pictures", "pictures accepted and not answered", lambda: self.batcher.taken)
        self.metrics.watch("snow_waiting_pictures", "pictures that wait for a pass", lambda: self.batcher.waiting)
        self._running: list[asyncio.Task[Any]] = []

    def _open(self) -> None:
        self._engine = passing()
        self._changing = others("changing", 1)
        self._decoders = others("decoding", self.limits.decoders)
        self.batcher = Batcher[Answers](
            lambda images, wanted: self._on(self._engine, self._worker.answer, images, wanted),
            self.limits.max_batch,
            self.limits.max_wait / 1000,
            self.limits.queue,
            self.metrics.passed,
        )

    async def start(self) -> None:
        """Reads the tasks and gets ready, also after a `stop`."""
        if self.batcher.closed:
            self._open()
        await self.refresh()
        await self._on(self._engine, self._worker.warm_up)
        self._running = [
            asyncio.create_task(self.batcher.run()),
            asyncio.create_task(watch(self.hub.path, self.limits.poll, self.refresh)),
        ]
        self.ready = True

    async def stop(self) -> None:
        """Answers what was accepted, and ends."""
        self.ready = False
        self.batcher.close()
        answering, watching = self._running
        watching.cancel()
        await asyncio.gather(answering, watching, return_exceptions=True)
        for threads in (self._engine, self._changing, self._decoders):
            await asyncio.to_thread(threads.shutdown)

    @property
    def stuck(self) -> bool:
        """Whether a pass seems never to end."""
        since = self.batcher.since
        return since is not None and asyncio.get_running_loop().time() - since > STUCK

    async def answer(self, question: Question) -> Reply:
        """Raises RefusedError: a picture cannot be used, a task is unknown or cannot answer; too much is waiting."""
        wanted, left_out = self._wanted(question.tasks)
        begun = time.perf_counter()
        images = await _all(
            [
                self._on(self._decoders, prepare, picture, number, self._transform, self.limits.max_pixels)
                for number, picture in enumerate(question.pictures)
            ]
        )
        decoded = time.perf_counter()
        found = await _all([self.batcher.ask(image, wanted) for image in images])
        self._judge(found, question.tasks, left_out)
        took = time.perf_counter() - begun
        for name in wanted:
            self.metrics.answered(name, len(found), took, name in left_out)
        last = max(found, key=lambda one: one.queued)
        return Reply(
            tuple(_sound(one.answer) for one in found),
            left_out,
            decoded - begun,
            last.queued,
            max(one.passed for one in found),
            last.batch,
        )

    async def refresh(self) -> None:
        """Sees what has changed in the hub's folder, between two passes."""
        self.catalog = await self._on(self._engine, self._worker.refresh)
        self.metrics.there_are(self.catalog.tasks, self.catalog.broken)

    async def keep(self, name: str, folder: Path) -> bool:
        """Puts the task of a folder into the hub, in one step. True: it took the place of another one.

        Raises:
            RefusedError: it is not a task of this source, its name is impossible, the disk is full.
        """
        there = name in self.catalog.tasks or name in self.catalog.broken
        try:
            await self._on(self._changing, self.hub.copy, folder, name, replace=True)
        except SnowError as error:
            why = without_paths(str(error), folder, self.hub.path)
            raise full(error) or RefusedError("bad_task", why) from None
        await self.refresh()
        return there

    async def remove(self, name: str) -> None:
        """Raises RefusedError: there is no such task, or it cannot be removed."""
        try:
            await self._on(self._changing, self.hub.remove, name)
        except SnowError as error:
            await self.refresh()
            if name in self.catalog.tasks or name in self.catalog.broken:
                raise full(error) or error from None
            raise RefusedError("unknown_task", f"there is no task {name!r}") from None
        await self.refresh()

    async def choices(self, name: str) -> dict[str, Any]:
        """Raises RefusedError: the task is unknown, or has no record of a choice."""
        self.known(name)
        try:
            return describe_selection(await asyncio.to_thread(read_selection_history, self.hub.path, name))
        except SnowError as error:
            raise RefusedError("not_found", without_paths(str(error), self.hub.path)) from None

    def known(self, name: str) -> None:
        """Raises RefusedError: there is no task of this name, or it cannot answer."""
        if name in self.catalog.broken:
            raise RefusedError("task_broken", self.catalog.broken[name])
        if name not in self.catalog.tasks:
            raise RefusedError("unknown_task", f"there is no task {name!r}")

    def _wanted(self, asked: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """The tasks to ask, and those that are left out although all were meant."""
        for name in asked:
            if name != SOURCE_HEAD:
                self.known(name)
        if not asked and not self.catalog.tasks:
            raise RefusedError("no_tasks", "the hub has no task that can answer")
        return tuple(asked or self.catalog.tasks), {} if asked else dict(self.catalog.broken)

    def _judge(self, found: Sequence[Batched[Answers]], asked: Sequence[str], left_out: dict[str, str]) -> None:
        """A task that fails spoils a request that named it, and is left out of one that asked all."""
        for one in found:
            for name, answer in one.answer.items():
                if isinstance(answer, str):
                    if asked:
                        gone = name not in self.catalog.tasks and name not in self.catalog.broken
                        raise RefusedError("unknown_task" if gone and name != SOURCE_HEAD else "task_broken", answer)
                    left_out[name] = answer

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, partial(work, *args, **kwargs))


def _sound(answers: Answers) -> dict[str, Ranked]:
    return {name: answer for name, answer in answers.items() if not isinstance(answer, str)}


async def _all(work: Sequence[Any]) -> list[Any]:
    """What each gives, in order; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
