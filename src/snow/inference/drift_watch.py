"""Watch whether the pictures of a service or a stream still resemble those that the tasks were trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from snow.inference.drift import Drift, familiarity_of
from snow.inference.reference import Reference, Traits
from snow.kinds import Prediction

WINDOW = 500
"""Pictures of each task that are compared: the last ones."""

EVERY = 100
"""Pictures after which a task is compared, to say whether it has changed."""


class DriftChange(NamedTuple):
    """The pictures of a task begin to differ from those of training, or end to.

    Attributes:
        task: its name.
        drift: of its last pictures; they differ if `drift.has_changed`.
    """

    task: str
    drift: Drift

    def describe(self) -> str:
        """Say it in one line."""
        task, drift = self
        last = f"task {task}: its last {drift.images} pictures"
        if not drift.has_changed:
            return f"{last} are as in training again"
        return (
            f"{last} differ from those of training: {100 * drift.unfamiliar:.0f} % are unfamiliar, "
            f"distance {drift.distance:.2f}, content {drift.content or 0.0:.2f}, "
            f"appearance {drift.appearance or 0.0:.2f}"
        )


class Window:
    """The last pictures of one task, as its newest version sees them. Its memory is set aside at once.

    Attributes:
        seen: pictures so far.
        known: their familiarities.
    """

    def __init__(self) -> None:
        self._begin(None)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Add pictures. Those that an earlier version of the task saw are forgotten, as they mean something else."""
        newest = _reference(predictions[-1])
        if newest is not self._reference:
            self._begin(newest)
        for each in predictions:
            familiar = familiarity_of(each)
            if familiar is None or _reference(each) is not newest:
                continue
            self.known.append(familiar)
            if isinstance(each.traits, Traits):
                self._put(self.seen % WINDOW, each.traits)
            self.seen += 1

    def is_due(self) -> bool:
        """Tell whether `EVERY` pictures have come since this was so last."""
        parts, self._parts = self._parts, self.seen // EVERY
        return self._parts > parts

    def drift(self) -> Drift:
        """Compare the pictures with those of training."""
        differences = None if self._reference is None else self._reference.differences_of(*self._rows())
        return Drift.from_differences(list(self.known), differences)

    def _begin(self, reference: Reference | None) -> None:
        self.seen = self._parts = 0
        self.known: deque[float] = deque(maxlen=WINDOW)
        self._reference = reference
        widths = (0, 0) if reference is None else (len(reference.features.root), len(reference.appearance.root))
        self._clusters = torch.zeros(WINDOW, dtype=torch.int64)
        self._features, self._appearance = (torch.zeros(WINDOW, width) for width in widths)

    def _put(self, place: int, traits: Traits) -> None:
        self._clusters[place] = traits.cluster
        self._features[place] = traits.features
        self._appearance[place] = traits.appearance

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        count = min(self.seen, WINDOW)
        return self._clusters[:count], self._features[:count], self._appearance[:count]


class DriftWatch:
    """Compares the last pictures of each task with those that it was trained on. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._windows: dict[str, Window] = {}
        self._changed: set[str] = set()

    def record(self, task: str, predictions: Sequence[Prediction]) -> DriftChange | None:
        """Add pictures. Those whose familiarity the task does not tell are left out.

        Returns:
            What is to be told: once when they have changed, and once when they are as in training again.
        """
        predictions = [each for each in predictions if each.known is not None]
        if not predictions:
            return None
        with self._lock:
            window = self._windows.setdefault(task, Window())
            window.add(predictions)
            return self._change(task, window.drift()) if window.is_due() else None

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

    def _change(self, task: str, drift: Drift) -> DriftChange | None:
        if drift.has_changed == (task in self._changed):
            return None
        self._changed.symmetric_difference_update({task})
        return DriftChange(task, drift)


def _reference(prediction: Prediction) -> Reference | None:
    """Return the reference of the version of a task that saw a picture; None if it keeps none."""
    return prediction.traits.reference if isinstance(prediction.traits, Traits) else None
