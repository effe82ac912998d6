"""Watch whether the pictures that a service sees still resemble those that its tasks were trained on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable

from snow.inference.familiarity import Drift

log = logging.getLogger("snow.serving")

WINDOW = 500
"""Pictures of each task that are compared: the last ones."""

EVERY = 100
"""Pictures after which a task is compared for the log."""


class DriftWatch:
    """Keeps how familiar the last pictures were to each task."""

    def __init__(self) -> None:
        self._known: dict[str, deque[float]] = {}
        self._seen: dict[str, int] = {}
        self._changed: set[str] = set()

    def record(self, task: str, known: Iterable[float]) -> None:
        """Add pictures. The log says once when they have changed, and once when they are as in training again."""
        new, before = list(known), self._seen.get(task, 0)
        self._known.setdefault(task, deque(maxlen=WINDOW)).extend(new)
        self._seen[task] = before + len(new)
        if self._seen[task] // EVERY > before // EVERY:
            self._report(task)

    def drift(self, task: str) -> Drift:
        """Compare the last pictures of a task with those that it was trained on."""
        return Drift.of(list(self._known.get(task, ())))

    def keep(self, tasks: Collection[str]) -> None:
        """Forget tasks that are not there any more."""
        for task in self._known.keys() - set(tasks):
            self._known.pop(task)
            self._seen.pop(task, None)
            self._changed.discard(task)

    def _report(self, task: str) -> None:
        drift = self.drift(task)
        if drift.has_changed and task not in self._changed:
            self._changed.add(task)
            log.warning(
                "task %s: its last %d pictures differ from those of training: %.0f %% are unfamiliar, distance %.2f",
                *(task, drift.images, 100 * drift.unfamiliar, drift.distance),
            )
        elif not drift.has_changed and task in self._changed:
            self._changed.discard(task)
            log.warning("task %s: its last %d pictures are as in training again", task, drift.images)
