"""Watch whether the pictures that a service sees still resemble those that its tasks were trained on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from threading import Lock

import torch
from torch import Tensor

from snow.inference import Prediction
from snow.inference.drift import Drift
from snow.inference.reference import Reference, Traits

log = logging.getLogger("snow.serving")

WINDOW = 500
"""Pictures of each task that are compared: the last ones."""

EVERY = 100
"""Pictures after which a task is compared for the log."""


class Window:
    """The last pictures of one task. Its memory is set aside at once."""

    def __init__(self) -> None:
        self.seen = 0
        self.known: deque[float] = deque(maxlen=WINDOW)
        self._reference: Reference | None = None
        self._traits = 0
        self._clusters = torch.zeros(WINDOW, dtype=torch.int64)
        self._features, self._appearance = torch.zeros(0), torch.zeros(0)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Add pictures. Traits by an earlier version of the task are forgotten, as they mean something else."""
        self.seen += len(predictions)
        self.known.extend(each.known for each in predictions if each.known is not None)
        traits = [each.traits for each in predictions if isinstance(each.traits, Traits)]
        traits = [each for each in traits if each.reference is traits[-1].reference]
        if not traits:
            return
        if traits[0].reference is not self._reference:
            self._reference, self._traits = traits[0].reference, 0
            self._features, self._appearance = (
                torch.zeros(WINDOW, len(row)) for row in (traits[0].features, traits[0].appearance)
            )
        for each in traits:
            place = self._traits % WINDOW
            self._clusters[place] = each.cluster
            self._features[place] = each.features
            self._appearance[place] = each.appearance
            self._traits += 1

    def drift(self) -> Drift:
        """Compare the pictures with those of training."""
        differences = None if self._reference is None else self._reference.differences_of(*self._rows())
        return Drift.from_differences(list(self.known), differences)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        count = min(self._traits, WINDOW)
        return self._clusters[:count], self._features[:count], self._appearance[:count]


class DriftWatch:
    """Compares the last pictures of each task with those that it was trained on. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._windows: dict[str, Window] = {}
        self._changed: set[str] = set()

    def record(self, task: str, predictions: Sequence[Prediction]) -> None:
        """Add pictures. The log says once when they have changed, and once when they are as in training again."""
        with self._lock:
            window = self._windows.setdefault(task, Window())
            before = window.seen
            window.add(predictions)
            if window.seen // EVERY > before // EVERY:
                self._report(task, window.drift())

    def drift(self, task: str) -> Drift:
        """Compare the last pictures of a task with those that it was trained on."""
        with self._lock:
            window = self._windows.get(task)
            return Drift.of(()) if window is None else window.drift()

    def keep(self, tasks: Collection[str]) -> None:
        """Forget tasks that are not there any more."""
        with self._lock:
            for task in self._windows.keys() - set(tasks):
                self._windows.pop(task)
                self._changed.discard(task)

    def _report(self, task: str, drift: Drift) -> None:
        if drift.has_changed and task not in self._changed:
            self._changed.add(task)
            log.warning(
                "task %s: its last %d pictures differ from those of training: %.0f %% are unfamiliar, distance %.2f, "
                "content %.2f, appearance %.2f",
                *(task, drift.images, 100 * drift.unfamiliar, drift.distance),
                *(drift.content or 0.0, drift.appearance or 0.0),
            )
        elif not drift.has_changed and task in self._changed:
            self._changed.discard(task)
            log.warning("task %s: its last %d pictures are as in training again", task, drift.images)
