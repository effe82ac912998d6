"""A line that moves while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from snow.training.history import EpochRecord, Plan, StepReport
from snow.training.listeners.listener import Listener

_REDRAW_SECONDS = 0.1


class ProgressBar(Listener):
    """On the standard error: epoch, loss, accuracy (means over the learners), images/s and time left.

    In a terminal it is a bar; elsewhere, a line per epoch.
    """

    def __init__(self) -> None:
        self._console: Console | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._drawn = 0.0
        self._epochs = 0

    def on_start(self, plan: Plan) -> None:
        self._console = Console(stderr=True)
        self._epochs = plan.epochs
        for note in plan.notes:
            self._console.print(note, highlight=False, markup=False, soft_wrap=True)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self._console,
                transient=True,
                speed_estimate_period=120,
            )
            first_epoch = f"{plan.first_step // plan.batches + 1}/{plan.epochs}"
            self._task = self._bar.add_task(
                "", total=plan.epochs * plan.batches, completed=plan.first_step, epoch=first_epoch, numbers=""
            )
            self._bar.start()

    def on_step(self, report: StepReport) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        numbers = _numbers(report.loss, report.accuracy, report.images_per_second)
        epoch = f"{report.epoch}/{self._epochs}"
        self._bar.update(self._task, completed=report.step, epoch=epoch, numbers=numbers)

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        if self._bar is None and self._console is not None:
            loss = {record.learner: record.loss for record in records}
            accuracy = {record.learner: record.accuracy for record in records}
            numbers = _numbers(loss, accuracy, records[0].images_per_second)
            measured = [record.validation for record in records if record.validation is not None]
            validation = f", validation {fmean(measured):.1%}" if measured else ""
            self._console.print(
                f"epoch {records[0].epoch}/{self._epochs}: {numbers}{validation}", highlight=False, soft_wrap=True
            )

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _numbers(loss: Mapping[str, float], accuracy: Mapping[str, float], speed: float) -> str:
    return f"loss {fmean(loss.values()):.3f}, accuracy {fmean(accuracy.values()):.1%}, {speed:.0f} images/s"
