"""The service: decodes pictures, batches them, asks the worker, and follows changes in the hub's folder."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from snow.errors import SnowError
from snow.hub import Hub
from snow.hub.folder import read_selection_history
from snow.hub.listing import store_of
from snow.inference import SOURCE_HEAD, Failure
from snow.process.threads import engine_executor, worker_executor
from snow.serving.batching import Batcher
from snow.serving.decoders import Decoders, fork_server
from snow.serving.details import describe_selection
from snow.serving.errors import RefusedError, without_paths
from snow.serving.fairness import Owner
from snow.serving.limits import Limits
from snow.serving.metrics import Metrics
from snow.serving.requests import PredictRequest
from snow.serving.responses import Predictions, PredictResult, off_loop, require_bounded
from snow.serving.uploads import storage_refusal
from snow.serving.worker import TaskSnapshot, Worker
from snow.store import Stamp

log = logging.getLogger("snow.serving")

P = ParamSpec("P")
T = TypeVar("T")

WARM_AT_ONCE = 8
"""Tasks that are prepared before the service is ready, and then between two passes: a pass waits no longer for them."""

STUCK_SECONDS = 60
"""A pass that takes longer than this is taken for one that never ends."""


class Service:
    """Runs two threads beside the event loop, one for passes and one that changes the hub, and processes that decode.

    A hub may be used by one thread at a time. So both threads have a `Hub` each, over the same folder and the
    same source; a change by one reaches the other through the folder, like a change by another process.
    """

    def __init__(self, hub: Hub, limits: Limits | None = None, device: str = "cpu") -> None:
        self.hub, self.limits, self.metrics = hub, limits or Limits(), Metrics()
        self.tasks = TaskSnapshot()
        self.ready = False
        self._worker = Worker(Hub(hub.path, hub.source, hub.engine.name), device)
        fork_server().start()
        self._create_executors()
        self._engine_executor.submit(self._worker.prepare).result()
        self.metrics.watch("snow_queue_pictures", "pictures accepted, not answered", lambda: self.batcher.reserved)
        self.metrics.watch("snow_waiting_pictures", "pictures that wait for a pass", lambda: self.batcher.waiting)
        self._background: list[asyncio.Task[Any]] = []

    def _create_executors(self) -> None:
        self._engine_executor = engine_executor()
        self._change_executor = worker_executor("changing", 1)
        self._decoders = Decoders(self.hub.source.preprocessing, self.limits)
        self.batcher = Batcher[Predictions](
            lambda images, tasks: self._run(self._engine_executor, self._worker.predict, images, tasks),
            self.limits.max_batch,
            self.limits.max_wait / 1000,
            self.limits.queue,
            self.metrics.record_batch,
        )

    async def start(self) -> None:
        """Read the tasks and warm up. A service that was stopped can be started again."""
        if self.batcher.closed:
            self._create_executors()
        await self.refresh()
        names = sorted(self.tasks.usable)
        await self._warm_up(names[:WARM_AT_ONCE])
        await self._decoders.start()
        gc.freeze()  # or each full collection of garbage goes through all tasks, and nothing else runs meanwhile
        self._batching = asyncio.create_task(self.batcher.run())
        self._background = [
            asyncio.create_task(watch(self.hub.path, self.limits.poll, self.refresh)),
            asyncio.create_task(self._warm_up(names[WARM_AT_ONCE:])),
        ]
        self.ready = True

    async def _warm_up(self, names: Sequence[str]) -> None:
        """Prepare the engine for tasks, a few between two passes."""
        for start in range(0, len(names), WARM_AT_ONCE):
            part = names[start : start + WARM_AT_ONCE]
            await self._run(self._engine_executor, self._worker.warm_up, part)

    async def stop(self) -> None:
        """Answer the requests that were accepted, and stop."""
        self.ready = False
        self.batcher.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(self._batching, *self._background, return_exceptions=True)
        await self._decoders.stop()
        for executor in (self._engine_executor, self._change_executor):
            await asyncio.to_thread(executor.shutdown)

    @property
    def stuck(self) -> bool:
        """Whether the current pass has been running for longer than `STUCK_SECONDS`."""
        started = self.batcher.started
        return started is not None and asyncio.get_running_loop().time() - started > STUCK_SECONDS

    async def predict(self, request: PredictRequest, owner: Owner) -> PredictResult:
        """Predict for all pictures of a request. A task that is broken or fails gets a `Failure`; the others answer.

        Raises:
            RefusedError: a picture cannot be used, a task is unknown, no task can answer, or the response is too large.
        """
        names = self._task_names(request.tasks)
        require_bounded(request, [self._class_count(name) for name in names])
        started = time.perf_counter()
        decoding = [
            self._decoders.decode(picture.content, number, owner) for number, picture in enumerate(request.pictures)
        ]
        images = await _gather(decoding)
        decoded = time.perf_counter()
        results = await _gather([self.batcher.submit(image, names, owner) for image in images])
        answers, seconds = [result.answer for result in results], time.perf_counter() - started
        pictures = await off_loop(len(names) * len(answers), self._check_and_count, names, request, answers, seconds)
        last = max(results, key=lambda result: result.queue_seconds)
        engine_seconds = max(result.engine_seconds for result in results)
        return PredictResult(pictures, decoded - started, last.queue_seconds, engine_seconds, last.batch_size)

    async def refresh(self) -> None:
        """Read what has changed in the hub's folder, between two passes."""
        self.tasks = await self._run(self._engine_executor, self._worker.refresh)
        self.metrics.set_tasks(self.tasks.usable, self.tasks.broken)

    async def add(self, name: str, folder: Path) -> bool:
        """Copy a task from a folder into the hub, in one step. Returns True if it replaced another one.

        Raises:
            RefusedError: it is not a task of this source, its name is invalid, or the disk is full.
        """
        is_replaced = name in self.tasks
        try:
            await self._run(self._change_executor, self.hub.copy, folder, name, replace=True)
        except SnowError as error:
            reason = without_paths(str(error), folder, self.hub.path)
            raise storage_refusal(error) or RefusedError("bad_task", reason) from None
        await self.refresh()
        return is_replaced

    async def remove(self, name: str) -> None:
        """Remove a task. Raises RefusedError: there is no such task, or it cannot be removed."""
        try:
            await self._run(self._change_executor, self.hub.remove, name)
        except SnowError as error:
            await self.refresh()
            if name in self.tasks:
                raise storage_refusal(error) or error from None
            raise RefusedError("unknown_task", f"there is no task {name!r}") from None
        await self.refresh()

    def selection_history(self, name: str) -> dict[str, Any]:
        """Describe the channels a task selected in training. Raises RefusedError: it is unknown, or has no record."""
        self.require(name)
        try:
            return describe_selection(read_selection_history(self.hub.path, name))
        except SnowError as error:
            raise RefusedError("not_found", without_paths(str(error), self.hub.path)) from None

    def require(self, name: str) -> None:
        """Raises RefusedError: there is no task of this name, or it cannot answer."""
        if name in self.tasks.broken:
            raise RefusedError("task_broken", self.tasks.broken[name])
        if name not in self.tasks.usable:
            raise RefusedError("unknown_task", f"there is no task {name!r}")

    def _task_names(self, named: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the tasks to ask: those that the request names, or else all of them."""
        for name in named:
            if name not in self.tasks and name != SOURCE_HEAD:
                raise RefusedError("unknown_task", f"there is no task {name!r}")
        if not named and not self.tasks.usable:
            raise RefusedError("no_tasks", "the hub has no task that can answer")
        return tuple(named or sorted((*self.tasks.usable, *self.tasks.broken)))

    def _checked(self, predictions: Predictions, named: Sequence[str]) -> Predictions:
        """Strip folders of this machine from failures. Raises RefusedError: a named task was removed meanwhile."""
        failures = {name: entry for name, entry in predictions.items() if isinstance(entry, Failure)}
        for name in failures:
            if name in named and name not in self.tasks and name != SOURCE_HEAD:
                raise RefusedError("unknown_task", f"there is no task {name!r}")
        stripped = {name: Failure(name, without_paths(entry.error, self.hub.path)) for name, entry in failures.items()}
        return {**predictions, **stripped} if stripped else predictions

    def _class_count(self, name: str) -> int:
        if name == SOURCE_HEAD:
            return self.hub.source.num_classes
        return len(self.tasks.usable[name].classes) if name in self.tasks.usable else 0

    def _check_and_count(
        self, names: Sequence[str], request: PredictRequest, answers: Sequence[Predictions], seconds: float
    ) -> list[Predictions]:
        """Check the answers to a request, see `_checked`, and count them by task."""
        pictures = [self._checked(predictions, request.tasks) for predictions in answers]
        for name in names:
            failed = sum(isinstance(predictions[name], Failure) for predictions in pictures)
            self.metrics.record_task(name, len(pictures) - failed, failed, seconds)
            entries = [predictions[name] for predictions in pictures]
            self.metrics.record_predictions(name, [each for each in entries if not isinstance(each, Failure)])
        return pictures

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **kwargs))


async def watch(hub: Path, seconds: float, on_change: Callable[[], Awaitable[object]]) -> None:
    """Call `on_change` after each change in the folder of a hub, until cancelled. Reads no file."""
    before: dict[str, Stamp] | None = None
    while True:
        try:
            now = await asyncio.to_thread(stamps, hub)
            if now != before:
                await on_change()
            before = now
        except OSError as error:
            log.warning("hub %s cannot be read: %s", hub, error)
        await asyncio.sleep(seconds)


def stamps(hub: Path) -> dict[str, Stamp]:
    """Return a stamp of each task of a hub; a stamp changes whenever the task's folder does."""
    store = store_of(hub)
    by_task: dict[str, Stamp] = {}
    for name in store.names():
        try:
            by_task[name] = store.stamp(name)
        except SnowError:  # the folder's name cannot be that of a task
            by_task[name] = ()
    return by_task


async def _gather(awaitables: Sequence[Any]) -> list[Any]:
    """Return the results in order. The first error cancels the rest, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(awaitable) for awaitable in awaitables]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
