"""The epochs and steps of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from signal import SIGINT
from typing import Any, NamedTuple

import torch

from snow.errors import DivergedError
from snow.inference.features import FeatureBatch, LiveFeatures
from snow.kinds import Metrics
from snow.process.interrupt import Interrupted
from snow.training.evaluate import collect_logits, evaluate_batches
from snow.training.history import EpochRecord, RunningMeans, StepReport
from snow.training.learner import Learner
from snow.training.listeners import Listener
from snow.training.loader import DeviceLoader
from snow.training.process_group import Readback
from snow.training.selection_recorder import recording_steps
from snow.training.state import Calibrated, Prepared, RunState


class StepNumbers(NamedTuple):
    """A step whose losses are still on the device.

    Attributes:
        number: of the step in the run, from 0.
        batch: of the step in its epoch, from 0.
        learners: those that made the step.
        counts: labels in the batch, by column.
    """

    number: int
    batch: int
    learners: list[Learner]
    counts: list[int]


class TrainingLoop:
    """Trains the learners of a run epoch by epoch, saves its state, and stops it where a signal asks for that."""

    def __init__(self, prepared: Prepared, calibrated: Calibrated, listeners: Sequence[Listener]) -> None:
        self._run, self._listeners = prepared, listeners
        self._state, self._cache = calibrated.state, calibrated.cache
        self._recipe, self._sampler = prepared.job.recipe, prepared.data.sampler
        self._readback: Readback[StepNumbers] = Readback(late=prepared.fabric.device.type == "cuda")
        self._judging: Iterable[FeatureBatch] | None = None
        self._recording = recording_steps(self._recipe.epochs, self._sampler.batches)

    def run(self) -> RunState:
        """Train to the end.

        Raises:
            DivergedError: a loss or a weight is not finite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        state, data = self._state, self._run.data
        with self._run.interrupt:
            training = self._features(data.training(), data.training_row)
            held_out = data.validation()
            validation = None if held_out is None else self._features(held_out, data.validation_row)
            judging = data.judging()
            self._judging = None if judging is None else self._features(judging, data.judging_row)
            self._judge([learner for learner in state.active if learner.guard and not learner.guard.has_start])
            while state.epoch < self._recipe.epochs and state.active:
                self._train_epoch(training)
                self._end_epoch(validation)
            if not state.epoch:  # all learners keep their starts: no epoch has saved these
                self._save()
            if self._run.group.any(self._run.interrupt.requested):
                self._stop()
        return state

    def _features(self, loader: DeviceLoader, row: Callable[[Any], int]) -> Iterable[FeatureBatch]:
        """Features from the source or from the cache. `row`: maps the key of a picture to its row in the cache."""
        return LiveFeatures(self._run.source, loader) if self._cache is None else self._cache.features(loader, row)

    def _train_epoch(self, training: Iterable[FeatureBatch]) -> None:
        state = self._state
        counts = self._run.data.start(state.epoch, state.batch)
        started = time.monotonic() - state.seconds
        for learner in state.learners:
            learner.method.train(not learner.stopped)
        for batch in training:
            due = self._step(batch, counts[state.batch])
            state.batch += 1
            if state.batch in self._recording:
                state.record_selection(state.epoch * self._sampler.batches + state.batch)
            state.seconds = time.monotonic() - started
            if self._save_or_stop(self._report(due)):
                started = time.monotonic() - state.seconds
        self._save_or_stop(self._report(self._readback.flush()))
        self._require_finite()
        state.seconds = time.monotonic() - started

    def _step(self, batch: FeatureBatch, counts: list[int]) -> tuple[StepNumbers, list[float]] | None:
        """Make one step of each learner.

        Returns:
            The numbers that have arrived from the device, if any: (sum of losses, correct) for each learner, then how
            many processes are to stop, and to save.
        """
        state, fabric = self._state, self._run.fabric
        learners = [learner for learner in state.active if counts[learner.column]]
        if not learners:
            return None
        number = state.epoch * self._sampler.batches + state.batch
        for learner in learners:
            rate = self._recipe.rate(number, self._sampler.batches)
            learner.prepare(rate, number / (self._recipe.epochs * self._sampler.batches))
        methods = [learner.method for learner in learners]
        with fabric.autocast():
            losses = [
                learner.loss(features, batch.labels, counts[learner.column])
                for learner, features in zip(learners, batch.features(methods), strict=True)
            ]
        torch.stack([loss for loss, _ in losses]).sum().backward()
        stop_or_save = torch.tensor(self._stop_or_save(), dtype=torch.float32, device=fabric.device)
        numbers = torch.cat([*(sums for _, sums in losses), stop_or_save])
        numbers = self._run.group.reduce(methods, numbers)
        for learner in learners:
            learner.step()
        return self._readback.exchange(StepNumbers(number, state.batch, learners, counts), numbers)

    def _report(self, due: tuple[StepNumbers, list[float]] | None) -> tuple[bool, bool]:
        """Add the numbers of a step up and call the listeners. Returns whether a process is to stop, and to save."""
        if due is None:
            return False, False
        step, (*sums, stop, save) = due
        for learner, loss, correct in zip(step.learners, sums[::2], sums[1::2], strict=True):
            if not abs(loss) < float("inf"):
                self._diverged(learner, step.batch)
            learner.means.add(loss, correct, step.counts[learner.column])
        if self._listeners:
            images = self._sampler.pictures * (step.batch + 1) // self._sampler.batches
            report = StepReport(
                step=step.number + 1,
                epoch=self._state.epoch + 1,
                loss={learner.name: learner.means.mean_loss for learner in step.learners},
                accuracy={learner.name: learner.means.accuracy for learner in step.learners},
                images_per_second=images / max(self._state.seconds, 1e-9),
            )
            for listener in self._listeners:
                listener.on_step(report)
        return bool(stop), bool(save)

    def _save_or_stop(self, stop_or_save: tuple[bool, bool]) -> bool:
        """Save after a step if it is time to, and stop if a signal came. Returns whether it was time to save."""
        stop, save = self._stop_or_save() if self._run.group.count == 1 else stop_or_save
        if stop or save:
            self._report(self._readback.flush())
            self._require_finite()
            self._save()
        if stop:
            self._stop()
        return save

    def _stop_or_save(self) -> tuple[bool, bool]:
        """Whether this process is to stop, and to save. Several processes do so when all of them know."""
        return self._run.interrupt.requested, self._run.checkpointer.is_due

    def _end_epoch(self, validation: Iterable[FeatureBatch] | None) -> None:
        """Measure, decide which learners stop, and write history and checkpoint."""
        state = self._state
        active = state.active
        metrics: dict[str, Metrics] = {}
        with ExitStack() as averaged:
            for learner in active:
                averaged.enter_context(learner.averaged_weights())
            self._judge([learner for learner in active if learner.guard])
            if validation is not None:
                methods = {learner.name: learner.method for learner in active}
                metrics = evaluate_batches(methods, self._run.data.labels, validation, self._run.fabric)
                for learner in active:
                    learner.update_best(metrics[learner.name].score)
        records = [self._record(learner, metrics.get(learner.name)) for learner in active]
        state.history += records
        state.epoch, state.batch, state.seconds = state.epoch + 1, 0, 0.0
        for learner in state.learners:
            learner.means = RunningMeans()
        self._save()
        for listener in self._listeners:
            listener.on_epoch(records)

    def _judge(self, learners: list[Learner]) -> None:
        """Measure learners on the training pictures that judge them, the same in every process."""
        judged = {learner.name: self._run.data.judged_by(learner.name) for learner in learners}
        judged = {name: pictures for name, pictures in judged.items() if pictures is not None}
        if self._judging is None or not judged:
            return
        methods = {learner.name: learner.method for learner in learners if learner.name in judged}
        logits = collect_logits(methods, self._judging, self._run.fabric)
        for learner in learners:
            if learner.guard is not None and (pictures := judged.get(learner.name)) is not None:
                index, labels = pictures
                learner.guard.update(logits[learner.name][index], labels)

    def _record(self, learner: Learner, validation: Metrics | None) -> EpochRecord:
        return EpochRecord(
            learner=learner.name,
            epoch=self._state.epoch + 1,
            loss=learner.means.mean_loss,
            accuracy=learner.means.accuracy,
            validation=None if validation is None else validation.score,
            lr=learner.lr,
            images_per_second=self._sampler.pictures / max(self._state.seconds, 1e-9),
            seconds=self._state.seconds,
            figure="" if validation is None else validation.score_key,
        )

    def _save(self) -> None:
        """Save the cache, then the state. All processes call this together."""
        if self._cache is not None:
            self._cache.save()
            self._run.group.agree(None)
        self._run.checkpointer.save(self._state.state_dict)

    def _stop(self) -> None:
        state, path = self._state, self._run.job.paths.checkpoint
        steps = f"{state.batch} of {self._sampler.batches} steps"
        where = f"in epoch {state.epoch + 1} of {self._recipe.epochs} after {steps}"
        if state.epoch == self._recipe.epochs:
            where = "after the last epoch"
        saved = "" if path is None else f"; {path} is saved, resume to continue"
        raise Interrupted(f"stopped {where}{saved}", self._run.interrupt.signal or SIGINT)

    def _require_finite(self) -> None:
        """Check the weights that a step with a finite loss left."""
        for learner in self._state.learners:
            if not learner.is_finite():
                self._diverged(learner, self._state.batch - 1)

    def _diverged(self, learner: Learner, batch: int) -> None:
        path = self._run.job.paths.checkpoint
        saved = f" (the last checkpoint, {path}, is kept)" if path is not None and path.exists() else ""
        raise DivergedError(
            f"the loss of {learner.name} is not finite in epoch {self._state.epoch + 1}, step {batch + 1} of "
            f"{self._sampler.batches}: train with a learning rate below {self._recipe.lr:g}{saved}",
            learner.name,
        )
