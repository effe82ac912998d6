"""Metrics of the service, for Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from snow.inference import SOURCE_HEAD, Prediction
from snow.inference.drift_watch import DriftWatch
from snow.serving.batching import BatchResult

log = logging.getLogger("snow.serving")

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_LABELLED = 100
"""Tasks with counters of their own; what reads the metrics keeps about 20 series for each."""

OTHERS = "(others)"
"""Label of all further tasks together. No task can have this name."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms. Names start with `snow_`; times are in seconds."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("snow_requests", "requests", ("path", "method", "status"), registry=registry)
        self._seconds = Histogram(
            "snow_request_seconds", "from a request to its response", ("path",), buckets=SECONDS, registry=registry
        )
        self._refused = Counter("snow_refused", "requests refused, by code", ("code",), registry=registry)
        self._answers = Counter("snow_task_answers", "pictures answered, by task", ("task",), registry=registry)
        self._task_seconds = Histogram(
            "snow_task_seconds",
            "from picture to answer, by task",
            ("task",),
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter("snow_task_failures", "pictures a task failed on", ("task",), registry=registry)
        self._drift = Gauge(
            "snow_task_drift",
            "distance from the pictures of training, 0 to 1",
            ("task",),
            registry=registry,
        )
        self.drift = DriftWatch()
        self._batch = Histogram("snow_batch_pictures", "pictures in a pass", buckets=SIZES, registry=registry)
        self._passed = Histogram("snow_batch_seconds", "what a pass took", buckets=SECONDS, registry=registry)
        self._queued = Histogram(
            "snow_queue_seconds", "what a picture waited for its pass", buckets=SECONDS, registry=registry
        )
        self._tasks = Gauge("snow_tasks", "tasks, by whether they can answer", ("state",), registry=registry)
        memory = Gauge("snow_device_memory_bytes", "memory of the GPU in use; 0 on a CPU", registry=registry)
        memory.set_function(lambda: torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)
        self._labelled: set[str] = set()

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed when it is read."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def record_response(self, path: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(path, method, status).inc()
        self._seconds.labels(path).observe(seconds)

    def record_refusal(self, code: str) -> None:
        self._refused.labels(code).inc()

    def record_batch(self, batch: Sequence[BatchResult]) -> None:
        """Count one pass of the source."""
        self._batch.observe(len(batch))
        self._passed.observe(batch[0].engine_seconds)
        for result in batch:
            self._queued.observe(result.queue_seconds)

    def record_task(self, task: str, answered: int, failed: int, seconds: float) -> None:
        """Count one request for one of its tasks.

        Args:
            answered: pictures with a prediction.
            failed: pictures with a failure.
            seconds: from picture to answer.
        """
        if task not in self._labelled:
            task = OTHERS
        if failed:
            self._failures.labels(task).inc(failed)
        if answered:
            self._answers.labels(task).inc(answered)
            self._task_seconds.labels(task).observe(seconds)

    def record_predictions(self, task: str, predictions: Sequence[Prediction]) -> None:
        """Record how pictures differ from those that a task was trained on, if it tells how familiar they are.

        The log says when that begins, and when it ends.
        """
        predictions = [each for each in predictions if each.known is not None]
        if predictions and task in self._labelled:
            change = self.drift.record(task, predictions)
            if change is not None:
                log.warning("%s", change.describe())
            self._drift.labels(task).set_function(lambda: self.drift.drift(task).strength)

    def set_tasks(self, usable: Collection[str], broken: Collection[str]) -> None:
        """Set the number of tasks, and forget what was counted for tasks that were removed.

        At most `MAX_LABELLED` tasks are counted one by one.
        """
        self._tasks.labels("answering").set(len(usable))
        self._tasks.labels("broken").set(len(broken))
        names = {*usable, *broken}
        for name in self._labelled - names - {SOURCE_HEAD}:
            for metric in (self._answers, self._task_seconds, self._failures, self._drift):
                metric.remove(name)
        kept = self._labelled & names
        added = sorted(names - kept)[: max(0, MAX_LABELLED - len(kept))]
        self._labelled = {*kept, *added, SOURCE_HEAD}
        self.drift.keep(names)

    def text(self) -> bytes:
        """Format all metrics as Prometheus reads them."""
        return generate_latest(self.registry)
