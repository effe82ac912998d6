"""The rows of `snow bench training`. Each is a function that takes one sample in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from snow.data import Pictures
from snow.experiments.bench.pipeline import Pipeline
from snow.experiments.step_cost import BenchConditions, BenchSetup, Build, StepCost, Stopwatch, Timer, untimed
from snow.inference.onnx_backend import source_for_precision
from snow.process.memory import PeakMemory
from snow.subscribe import Subscription
from snow.training.feature_cache import CacheSettings, FeatureCache
from snow.training.learner import Learner
from snow.training.recipe import CACHE_DTYPE


@dataclass(frozen=True)
class Sample:
    """One sample of a row.

    Attributes:
        cost: of a step from memory; None if the row has no such step.
        pipeline: images/s from image files; None if the row reads none.
        phases: seconds per image by phase.
        kept_bytes: bytes per image in the feature cache.
        filled: images/s while the cache was filled.
    """

    cost: StepCost | None = None
    pipeline: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    kept_bytes: int | None = None
    filled: float | None = None


UNBOUNDED = "1000TB"
"""A cache size that no benchmark reaches."""


def method(conditions: BenchConditions, build: Build, pictures: Pictures) -> Sample:
    """Time a whole training step: from memory, from image files, and phase by phase."""
    setup = BenchSetup(conditions)
    learner = setup.learner(build)

    def step(images: Tensor, labels: Tensor, timer: Timer = untimed) -> None:
        with timer("source"):
            features = setup.observe(learner, images)
        setup.learn(learner, features, labels, timer)

    cost = setup.cost(partial(step, setup.images, setup.labels))
    speed = Pipeline(setup, pictures).images_per_second(step)
    return Sample(cost, speed, _phases(setup, learner, partial(step, setup.images, setup.labels)))


def cached(conditions: BenchConditions, build: Build) -> Sample:
    """Time a step on cached features, including the read (phase `cache`). The source is not needed any more."""
    setup = BenchSetup(conditions)
    method = setup.learner(build).method
    method.freeze_selection()
    learner = Learner(method.name, method, setup.task_labels, setup.recipe, setup.fabric)
    rows, labels = torch.arange(len(setup.images)), setup.labels
    settings = CacheSettings(len(rows), setup.recipe.cache_dtype or CACHE_DTYPE, UNBOUNDED)
    cache = FeatureCache(setup.source, [method], setup.fabric, settings)
    filled = setup.seconds(lambda: cache.put(rows, setup.images, labels))
    setup.memory = PeakMemory(setup.device)

    def step(timer: Timer = untimed) -> None:
        with timer("cache"):
            batch = cache.get(rows, labels.cpu())
            [features] = batch.features([method])
        setup.learn(learner, features, batch.labels, timer)

    return Sample(setup.cost(step), None, _phases(setup, learner, step), cache.row_bytes, len(rows) / filled)


def source_alone(conditions: BenchConditions) -> Sample:
    """Time the source pass alone: the limit of training without a cache."""
    setup = BenchSetup(conditions)
    source = source_for_precision(setup.source, setup.recipe.precision)
    images = setup.images.contiguous(memory_format=torch.channels_last)
    setup.memory.restart()

    def step() -> None:
        with setup.fabric.autocast():
            source(images, frozenset())

    return Sample(setup.cost(step))


def delta_alone(conditions: BenchConditions, build: Build) -> Sample:
    """Time a method's own step on features in memory: the limit of training on a cache."""
    setup = BenchSetup(conditions)
    learner = setup.learner(build)
    features = setup.observe(learner, setup.images)

    def step() -> None:
        learner.method.sample_channels()  # training draws anew at each step; the features stay those of the first draw
        setup.learn(learner, features, setup.labels)

    return Sample(setup.cost(step))


def decoding_alone(conditions: BenchConditions, pictures: Pictures) -> Sample:
    """Time loading alone: the limit of all training from image files."""
    pipeline = Pipeline(BenchSetup(conditions), pictures)
    return Sample(pipeline=pipeline.images_per_second(lambda images, labels: None), phases=pipeline.phases())


def _phases(setup: BenchSetup, learner: Learner, step: Callable[[Timer], None]) -> dict[str, float]:
    """Time each phase over a few more steps, in seconds per image."""
    stopwatch = Stopwatch(setup.synchronize)
    for module in learner.method.modules():
        if isinstance(module, Subscription):
            stopwatch.follow(module, "gather")
    steps = max(2, setup.conditions.steps // 2)
    for _ in range(steps):
        step(stopwatch)
    spent = stopwatch.seconds
    spent["forward"] -= spent.setdefault("gather", 0.0)
    return {name: seconds / steps / len(setup.labels) for name, seconds in spent.items()}
