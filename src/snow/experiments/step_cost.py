"""Time a training step: images/s and peak memory of a method, on random images that are in memory already.

`compare`, `bench` and `reproduce` all measure with this. Each sample is taken in a process of its own, because memory
belongs to a process; methods take turns, because a machine's speed drifts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Self

import torch
from torch import Tensor, nn

from snow.experiments.results.table import Spread
from snow.inference.features import observe_channels
from snow.inference.onnx_backend import source_for_precision
from snow.methods import Method
from snow.methods.variant import Variant
from snow.process.memory import PeakMemory
from snow.process.subprocesses import in_subprocess, interleaved
from snow.source import Features, Source
from snow.training import Recipe, Runtime
from snow.training.launch import open_fabric
from snow.training.learner import Learner
from snow.training.task_labels import TaskLabels

WARM_UP = 2
"""Steps before the clock starts."""

ROUNDS = 3
"""Samples of each method, taken in turn with the other methods."""

Build = Callable[[Source, int], Method]
"""Builds an untrained method for a source and a number of classes."""

Timer = Callable[[str], AbstractContextManager[None]]
"""Times the block it is entered for, under the name of a phase."""


def untimed(_name: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class BenchConditions:
    """Source, images and recipe of a measurement.

    Attributes:
        source: a name for `Source.open`. Weights are random and never downloaded: they do not change the speed.
        image_size: side of the images in pixels.
        classes: of the task.
        recipe: batch size, precision, optimizer, augmentation and seed.
        runtime: accelerator and loading workers.
        steps: timed steps, after `WARM_UP`.
    """

    source: str
    image_size: int
    classes: int
    recipe: Recipe
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    steps: int = 5


class Stopwatch:
    """Add up seconds by phase. The device is synchronised around each phase, so that phases do not overlap.

    Args:
        synchronize: returns once the device is idle.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize
        self._started = 0.0

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        self._synchronize()
        started = time.perf_counter()
        yield
        self._synchronize()
        self._add(name, time.perf_counter() - started)

    def follow(self, module: nn.Module, name: str) -> None:
        """Time every forward pass of a module."""
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(lambda *_: self._stop(name))

    def _start(self, *_: object) -> None:
        self._synchronize()
        self._started = time.perf_counter()

    def _stop(self, name: str) -> None:
        self._synchronize()
        self._add(name, time.perf_counter() - self._started)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass(frozen=True)
class StepCost:
    """One sample, from one process.

    Attributes:
        images_per_second: batch size over the median step.
        peak_memory_bytes: as `PeakMemory` counts it: above what the process held before the source was built.
    """

    images_per_second: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class TrainingCost:
    """Several samples: medians, and the range of the speed.

    Attributes:
        peak_memory_bytes: on a GPU of its allocator, on a CPU of the process.
    """

    images_per_second: float
    images_per_second_range: tuple[float, float]
    peak_memory_bytes: int

    @classmethod
    def of(cls, samples: Sequence[StepCost]) -> Self:
        speed = Spread.of(sample.images_per_second for sample in samples)
        memory = Spread.of(sample.peak_memory_bytes for sample in samples)
        return cls(speed.median, speed.range, int(memory.median))


class BenchSetup:
    """A source and one random batch on the device: `images` (B, 3, S, S) uint8, `labels` (B, 1)."""

    def __init__(self, conditions: BenchConditions) -> None:
        import timm  # noqa: F401  imported now, so that its memory is not counted as the method's

        self.conditions, self.recipe = conditions, conditions.recipe
        self.fabric = open_fabric(self.recipe.precision, conditions.runtime.accelerator)
        self.device = self.fabric.device
        torch.manual_seed(self.recipe.seed)
        self.memory = PeakMemory(self.device)
        self.source = Source.open(conditions.source, pretrained=False, image_size=conditions.image_size)
        self.fabric.to_device(self.source)
        size, batch = self.source.preprocessing.image_size, self.recipe.batch_size
        self.images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=self.device)
        self.labels = torch.randint(conditions.classes, (batch, 1), device=self.device)
        self.task_labels = TaskLabels.classes(conditions.classes, smoothing=conditions.recipe.label_smoothing)

    def learner(self, build: Build) -> Learner:
        """Build an untrained method in training mode, and put the source into the form that training uses."""
        method = build(self.source, self.conditions.classes).train()
        if method.uses_source:
            self.source = source_for_precision(self.source, self.recipe.precision)
            self.memory.restart()
        self.fabric.to_device(method)
        return Learner(method.name, method, self.task_labels, self.recipe, self.fabric)

    def observe(self, learner: Learner, images: Tensor) -> Features:
        """Run the source for one learner: (B, 3, S, S) uint8 -> its features."""
        with self.fabric.autocast():
            [features] = observe_channels(self.source, [learner.method], images)
        return features

    def learn(self, learner: Learner, features: Features, labels: Tensor, timer: Timer = untimed) -> None:
        """Take the rest of a training step on features: forward, backward and optimizer, each under `timer`."""
        learner.prepare(1.0, 0.5)
        with timer("forward"), self.fabric.autocast():
            loss, _ = learner.loss(features, labels, len(labels))
        with timer("backward"):
            loss.backward()
        with timer("optimizer"):
            learner.step()

    def cost(self, step: Callable[[], object]) -> StepCost:
        """Time a step over one batch."""
        for _ in range(WARM_UP):
            step()
        durations = [self.seconds(step) for _ in range(self.conditions.steps)]
        return StepCost(self.recipe.batch_size / median(durations), self.memory.bytes)

    def seconds(self, call: Callable[[], object]) -> float:
        """Time a call until the device is idle."""
        self.synchronize()
        started = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - started

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def step_cost(conditions: BenchConditions, build: Build) -> StepCost:
    """Time a whole training step of a method, source pass included, in this process."""
    setup = BenchSetup(conditions)
    learner = setup.learner(build)
    return setup.cost(lambda: setup.learn(learner, setup.observe(learner, setup.images), setup.labels))


def measure_step(conditions: BenchConditions, method: Variant) -> StepCost:
    """Take one sample of one method, in a fresh process."""
    return in_subprocess(method.label, partial(step_cost, conditions, method.build))


def measure_training_costs(conditions: BenchConditions, methods: Sequence[Variant]) -> dict[str, TrainingCost]:
    """Take `ROUNDS` samples of each method in turn, and return their medians by label."""
    calls = {variant.label: partial(step_cost, conditions, variant.build) for variant in methods}
    *_, samples = interleaved(calls, ROUNDS)
    return {label: TrainingCost.of(method_samples) for label, method_samples in samples.items()}
