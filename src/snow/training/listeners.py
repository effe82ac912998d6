"""The interface of listeners, a progress bar, and a table on disk."""

from __future__ import annotations

import csv
import time
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from snow.errors import SnowError
from snow.kinds import ClassKind, kind_named, score_text
from snow.training.history import EpochRecord, RunInfo, StepReport


class Listener(ABC):  # noqa: B024  a listener overrides the calls that it needs
    """Called by the first process of a run, in this order. A run on several devices pickles listeners to get there."""

    def on_start(self, run: RunInfo) -> None:  # noqa: B027
        """Before the first step; `run.history` is not empty if the run continues from a checkpoint."""

    def on_step(self, report: StepReport) -> None:  # noqa: B027
        """After each step."""

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:  # noqa: B027
        """After each epoch and its checkpoint: a record for each learner that has not stopped early."""

    def on_end(self) -> None:  # noqa: B027
        """Once, when the run ends or fails."""


_REDRAW_SECONDS = 0.1


class ProgressBar(Listener):
    """Shows epoch, loss, accuracy (means over the learners of each kind of labels), images/s and time left on stderr.

    In a terminal it is a bar, elsewhere a line per epoch.
    """

    def __init__(self) -> None:
        self._console: Console | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._drawn = 0.0
        self._epochs = 0
        self._kinds: Mapping[str, str] = {}

    def on_start(self, run: RunInfo) -> None:
        self._console = Console(stderr=True)
        self._epochs, self._kinds = run.epochs, run.kinds
        for note in run.notes:
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
            first_epoch = f"{run.first_step // run.batches + 1}/{run.epochs}"
            self._task = self._bar.add_task(
                "", total=run.epochs * run.batches, completed=run.first_step, epoch=first_epoch, numbers=""
            )
            self._bar.start()

    def on_step(self, report: StepReport) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        numbers = self._numbers(report.loss, report.accuracy, report.images_per_second)
        epoch = f"{report.epoch}/{self._epochs}"
        self._bar.update(self._task, completed=report.step, epoch=epoch, numbers=numbers)

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        if self._bar is None and self._console is not None:
            loss = {record.learner: record.loss for record in records}
            accuracy = {record.learner: record.accuracy for record in records}
            numbers = self._numbers(loss, accuracy, records[0].images_per_second)
            line = f"epoch {records[0].epoch}/{self._epochs}: {numbers}{_validation(records)}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _numbers(self, loss: Mapping[str, float], accuracy: Mapping[str, float], speed: float) -> str:
        by_kind: dict[str, list[float]] = {}
        for learner, share in accuracy.items():
            by_kind.setdefault(kind_named(self._kinds.get(learner, ClassKind.name)).hits_title, []).append(share)
        shares = ", ".join(f"{title} {fmean(values):.1%}" for title, values in by_kind.items())
        return f"loss {fmean(loss.values()):.3f}, {shares}, {speed:.0f} images/s"


def _validation(records: Sequence[EpochRecord]) -> str:
    """Write the scores on held-out pictures, a mean for each figure; "" if there are none."""
    by_figure: dict[str, list[float]] = {}
    for record in records:
        if record.validation is not None:
            by_figure.setdefault(record.figure, []).append(record.validation)
    texts = [score_text(figure, fmean(scores)) for figure, scores in by_figure.items()]
    return f", validation {', '.join(texts)}" if texts else ""


class CsvLog(Listener):
    """Writes `history.csv` in a folder: a row per learner and epoch, with the fields of `EpochRecord`.

    Raises:
        SnowError: the file cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "history.csv"

    def on_start(self, run: RunInfo) -> None:
        self._write(run.history, "w")

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        self._write(records, "a")

    def _write(self, records: Sequence[EpochRecord], mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, mode, newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)], lineterminator="\n")
                if mode == "w":
                    writer.writeheader()
                writer.writerows(asdict(record) for record in records)
        except OSError as error:
            raise SnowError(f"cannot write the log {self.path}: {error.strerror or error}") from None
