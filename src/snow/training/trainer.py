"""A run that cannot go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from snow.data import Dataset
from snow.errors import SnowError
from snow.inference.features import FeatureBatch, LiveFeatures
from snow.inference.onnx_backend import source_for_precision
from snow.methods import Method
from snow.process.interrupt import Interrupt, Interrupted
from snow.process.randomness import seed_all
from snow.source import Source
from snow.subscribe import SelectionHistory
from snow.training import checkpoint as checkpoints
from snow.training.cache.cache import FeatureCache, is_cached, open_cache
from snow.training.calibration import calibrate
from snow.training.evaluate import Metrics, evaluate_batches
from snow.training.history import EpochRecord, RunPlan, StepReport, Totals, moments
from snow.training.launch import arithmetic, is_child
from snow.training.learner import Learner
from snow.training.listeners import Listener
from snow.training.loader import DeviceLoader
from snow.training.process_group import ProcessGroup, Readback
from snow.training.recipe import Recipe
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class DivergedError(SnowError):
    """The loss or the weights of one learner are not finite; `learner` is its name."""

    def __init__(self, message: str, learner: str) -> None:
        super().__init__(message)
        self.learner = learner

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.learner)


class _Step(NamedTuple):
    """What is known of a step before its numbers are read: whose they are, and how many labels each task had."""

    number: int
    batch: int
    learners: list[Learner]
    counts: list[int]


class Run:
    """Trains methods, and holds what that takes. `epoch` and `batch` are the next to be done, from 0."""

    def __init__(
        self,
        fabric: Fabric,
        source: Source,
        learners: Mapping[str, Method],
        dataset: Dataset,
        recipe: Recipe,
        listeners: Sequence[Listener],
        checkpoint: Path | None,
        resume: bool,
        cache: Path | None = None,
    ) -> None:
        if not learners:
            raise SnowError("there is nothing to train: name at least one learner")
        self.fabric, self.recipe = fabric, recipe
        self.peers = ProcessGroup(fabric)
        self.listeners = listeners if self.peers.is_first else ()
        self.checkpoint = checkpoint
        cached = is_cached(recipe, learners.values())
        views = recipe.views if cached else None
        self.feed = TrainingData(dataset, learners, source.preprocessing, recipe, self.peers, fabric.device, views)
        self.order = self.feed.order
        self.moments = moments(recipe.epochs, self.order.batches)
        self.epoch = self.batch = 0
        self.seconds, self.history = 0.0, list[EpochRecord]()
        self.readback: Readback[_Step] = Readback(late=fabric.device.type == "cuda")
        self.interrupt = Interrupt(child=is_child())
        self.saved_at = time.monotonic()
        fabric.to_device(source)
        methods = dict(learners)
        for method in methods.values():
            fabric.to_device(method)
        sees = any(method.uses_source for method in methods.values())
        self.source = source_for_precision(source, recipe.precision) if sees else source
        precision = arithmetic(recipe.precision, fabric)
        self.identity: dict[str, Any] = {}
        if checkpoint is not None:
            self.identity = checkpoints.identity(source, methods, dataset, recipe, precision, self.peers.count)
        resumed = checkpoints.load(checkpoint) if resume and checkpoint is not None and checkpoint.exists() else None
        if resumed is None:
            self._calibrate(methods)
        if cached:
            for method in methods.values():
                method.freeze_selection()
        self.learners = [
            Learner(name, method, self.feed.columns[name], recipe, fabric.device, scaled=precision == "16-mixed")
            for name, method in methods.items()
        ]
        if resumed is None:
            self._record()
        else:
            self._load(resumed)
        self.cache: FeatureCache | None = None
        if cached:
            every = list(methods.values())
            self.cache = open_cache(self.source, source.fingerprint, every, dataset, self.feed, recipe, fabric, cache)

    def fit(self) -> dict[str, Metrics]:
        """Trains to the end. Returns what `evaluate_batches` measures of the kept weights on the test pictures."""
        with ExitStack() as stack:
            for listener in self.listeners:
                stack.callback(listener.on_end)
                listener.on_start(self._plan())
            with self.interrupt:
                training, held_out = self.feed.training(), self.feed.validation()
                training = self._seen(training, self.feed.training_row)
                validation = None if held_out is None else self._seen(held_out, self.feed.validation_row)
                while self.epoch < self.recipe.epochs and not all(learner.stopped for learner in self.learners):
                    self._train_epoch(training)
                    self._end_epoch(validation)
                if self.peers.any(self.interrupt.requested):
                    self._stop()
        for learner in self.learners:
            learner.finish()
        methods = {learner.name: learner.method for learner in self.learners}
        metrics = evaluate_batches(methods, self.feed.columns, LiveFeatures(self.source, self.feed.test()), self.fabric)
        return {name: metric for name, metric in metrics.items() if metric.images}

    def selection_history(self) -> dict[str, SelectionHistory]:
        """Of the learners that make a choice: what it was over time."""
        found = {learner.name: learner.recorder.history(self.order.batches) for learner in self.learners}
        return {name: choices for name, choices in found.items() if choices is not None}

    def _record(self) -> None:
        for learner in self.learners:
            if not learner.stopped:
                learner.recorder.record(self.epoch * self.order.batches + self.batch)

    def _calibrate(self, methods: Mapping[str, Method]) -> None:
        """Before the first step; afterwards all processes have the same methods and noise of their own."""
        seed_all(self.recipe.seed)
        for name, method in methods.items():
            calibrate(method, self.feed.columns[name], self.source, self.feed.train, self.recipe, self.fabric)
        self.peers.align(methods.values())
        seed_all(self.recipe.seed, self.peers.rank)

    def _seen(self, loading: DeviceLoader, row: Callable[[Any], int]) -> Iterable[FeatureBatch]:
        """`row`: from a key of a picture to its row in the cache."""
        return LiveFeatures(self.source, loading) if self.cache is None else self.cache.remembered(loading, row)

    def _train_epoch(self, training: Iterable[FeatureBatch]) -> None:
        counts = self.feed.start(self.epoch, self.batch)
        started = time.monotonic() - self.seconds
        for learner in self.learners:
            learner.method.train(not learner.stopped)
        for batch in training:
            due = self._step(batch, counts[self.batch])
            self.batch += 1
            if self.batch in self.moments:
                self._record()
            self.seconds = time.monotonic() - started
            if self._attend(self._digest(due)):
                started = time.monotonic() - self.seconds
        self._attend(self._digest(self.readback.flush()))
        self._require_finite()
        self.seconds = time.monotonic() - started

    def _step(self, batch: FeatureBatch, counts: list[int]) -> tuple[_Step, list[float]] | None:
        """One step of each learner. Returns the numbers that are due: sums by learner, then wishes to stop and save."""
        learners = [learner for learner in self.learners if not learner.stopped and counts[learner.column]]
        if not learners:
            return None
        number = self.epoch * self.order.batches + self.batch
        for learner in learners:
            rate = self.recipe.rate(number, self.order.batches)
            learner.prepare(rate, number / (self.recipe.epochs * self.order.batches))
        methods = [learner.method for learner in learners]
        with self.fabric.autocast():
            parts = [
                learner.loss(features, batch.labels[:, learner.column], counts[learner.column])
                for learner, features in zip(learners, batch.features(methods), strict=True)
            ]
        torch.stack([loss for loss, _ in parts]).sum().backward()
        stop_or_save = torch.tensor(self._stop_or_save(), dtype=torch.float32, device=self.fabric.device)
        numbers = torch.cat([*(sums for _, sums in parts), stop_or_save])
        numbers = self.peers.reduce(methods, numbers)
        for learner in learners:
            learner.step()
        return self.readback.exchange(_Step(number, self.batch, learners, counts), numbers)

    def _digest(self, due: tuple[_Step, list[float]] | None) -> tuple[bool, bool]:
        """Adds the numbers of a step up and tells the listeners. Returns whether a process wishes to stop, to save."""
        if due is None:
            return False, False
        step, (*sums, stop, save) = due
        for learner, loss, correct in zip(step.learners, sums[::2], sums[1::2], strict=True):
            if not abs(loss) < float("inf"):
                self._diverged(learner, step.batch)
            learner.totals.add(loss, correct, step.counts[learner.column])
        if self.listeners:
            images = self.order.pictures * (step.batch + 1) // self.order.batches
            report = StepReport(
                step=step.number + 1,
                epoch=self.epoch + 1,
                loss={learner.name: learner.totals.mean_loss for learner in step.learners},
                accuracy={learner.name: learner.totals.accuracy for learner in step.learners},
                images_per_second=images / max(self.seconds, 1e-9),
            )
            for listener in self.listeners:
                listener.on_step(report)
        return bool(stop), bool(save)

    def _attend(self, stop_or_save: tuple[bool, bool]) -> bool:
        """After a step: saves, and stops, if that is wished. Returns whether it saved."""
        stop, save = self._stop_or_save() if self.peers.count == 1 else stop_or_save
        if stop or save:
            self._digest(self.readback.flush())
            self._require_finite()
            self._save()
        if stop:
            self._stop()
        return save

    def _stop_or_save(self) -> tuple[bool, bool]:
        """Whether this process wishes to stop, and to save: a run of several heeds them when all have heard of them."""
        due = time.monotonic() - self.saved_at > self.recipe.checkpoint_seconds
        return self.interrupt.requested, due and self.checkpoint is not None and self.peers.is_first

    def _end_epoch(self, validation: Iterable[FeatureBatch] | None) -> None:
        """Measures, decides on stopping, writes history and checkpoint."""
        active = [learner for learner in self.learners if not learner.stopped]
        accuracies: dict[str, float] = {}
        with ExitStack() as settled:
            for learner in active:
                settled.enter_context(learner.averaged_weights())
            if validation is not None:
                methods = {learner.name: learner.method for learner in active}
                measured = evaluate_batches(methods, self.feed.columns, validation, self.fabric)
                accuracies = {name: metrics.top1 for name, metrics in measured.items()}
                for learner in active:
                    learner.judge(accuracies[learner.name])
        records = [
            EpochRecord(
                learner=learner.name,
                epoch=self.epoch + 1,
                loss=learner.totals.mean_loss,
                accuracy=learner.totals.accuracy,
                validation=accuracies.get(learner.name),
                lr=learner.lr,
                images_per_second=self.order.pictures / max(self.seconds, 1e-9),
                seconds=self.seconds,
            )
            for learner in active
        ]
        self.history += records
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        for learner in self.learners:
            learner.totals = Totals()
        self._save()
        for listener in self.listeners:
            listener.on_epoch(records)

    def _stop(self) -> None:
        where = f"in epoch {self.epoch + 1} of {self.recipe.epochs} after {self.batch} of {self.order.batches} steps"
        if self.epoch == self.recipe.epochs:
            where = "after the last epoch"
        kept = "" if self.checkpoint is None else f"; {self.checkpoint} is saved, resume to go on"
        raise Interrupted(f"stopped {where}{kept}", self.interrupt.signal or SIGINT)

    def _require_finite(self) -> None:
        """After a step whose loss was finite: so are the weights that it left."""
        for learner in self.learners:
            if not learner.is_finite():
                self._diverged(learner, self.batch - 1)

    def _diverged(self, learner: Learner, batch: int) -> None:
        kept = self.checkpoint is not None and self.checkpoint.exists()
        raise DivergedError(
            f"the loss of {learner.name} is not finite in epoch {self.epoch + 1}, step {batch + 1} of "
            f"{self.order.batches}: train with a learning rate below {self.recipe.lr:g}"
            f"{f' (the last checkpoint, {self.checkpoint}, is kept)' if kept else ''}",
            learner.name,
        )

    def _save(self) -> None:
        """All processes call this together; the first one writes."""
        if self.cache is not None:
            self.cache.save()
            self.peers.agree(None)
        if self.checkpoint is None:
            return
        states = self.peers.random_states()
        error = None
        if self.peers.is_first:
            try:
                checkpoints.save(
                    self.checkpoint,
                    {
                        "identity": self.identity,
                        "epoch": self.epoch,
                        "batch": self.batch,
                        "seconds": self.seconds,
                        "history": [asdict(record) for record in self.history],
                        "learners": {learner.name: learner.state_dict() for learner in self.learners},
                        "random": states,
                    },
                )
            except SnowError as raised:
                error = raised
        self.peers.agree(error)
        self.saved_at = time.monotonic()

    def _load(self, state: dict[str, Any]) -> None:
        assert self.checkpoint is not None
        checkpoints.require_same_run(self.checkpoint, state["identity"], self.identity)
        for learner in self.learners:
            learner.load_state_dict(state["learners"][learner.name])
        self.epoch, self.batch, self.seconds = state["epoch"], state["batch"], state["seconds"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.peers.set_random_states(state["random"])

    def _plan(self) -> RunPlan:
        return RunPlan(
            learners=tuple(learner.name for learner in self.learners),
            epochs=self.recipe.epochs,
            batches=self.order.batches,
            recipe=self.recipe.to_dict(),
            first_step=self.epoch * self.order.batches + self.batch,
            history=tuple(self.history),
            notes=() if self.cache is None else (self.cache.note,),
        )
