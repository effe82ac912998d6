"""The rows of `snow bench training`, each a function that one process runs once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from snow.data import Pictures
from snow.experiments.bench.pipeline import Pipeline
from snow.experiments.bench.setup import BenchSetup, Build, Conditions, StepCost, Stopwatch, Watch, unwatched
from snow.inference.onnx_backend import source_for_precision
from snow.process.memory import PeakMemory
from snow.subscribe import Subscription
from snow.training.cache.cache import CacheSettings, FeatureCache
from snow.training.learner import Learner
from snow.training.recipe import CACHE_DTYPE


@dataclass(frozen=True)
class Sample:
    """What one process found.

    Attributes:
        cost: None where nothing is held in memory.
        pipeline: images a second from picture files; None where none are read.
        phases: seconds a picture by name.
        kept_bytes: what a cache holds of each picture.
        filled: images a second while it was filled.
    """

    cost: StepCost | None = None
    pipeline: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    kept_bytes: int | None = None
    filled: float | None = None


UNBOUNDED = "1000TB"


def method(conditions: Conditions, build: Build, pictures: Pictures) -> Sample:
    """A whole training step: from memory, from picture files, and phase by phase."""
    stand = BenchSetup(conditions)
    learner = stand.learner(build)

    def step(images: Tensor, labels: Tensor, watch: Watch = unwatched) -> None:
        with watch("source"):
            features = stand.observe(learner, images)
        stand.learn(learner, features, labels, watch)

    cost = stand.cost(partial(step, stand.images, stand.labels))
    speed = Pipeline(stand, pictures).images_per_second(step)
    return Sample(cost, speed, _phases(stand, learner, partial(step, stand.images, stand.labels)))


def cached(conditions: Conditions, build: Build) -> Sample:
    """A step on features that were kept, reading them and all: the phase `cache`. The source is gone by then."""
    stand = BenchSetup(conditions)
    method = stand.learner(build).method
    method.freeze_selection()
    learner = Learner(method.name, method, 0, stand.recipe, stand.fabric)
    rows, labels = torch.arange(len(stand.images)), stand.labels[:, None]
    settings = CacheSettings(len(rows), stand.recipe.cache_dtype or CACHE_DTYPE, UNBOUNDED)
    cache = FeatureCache(stand.source, [method], stand.fabric, settings)
    filled = stand.seconds(lambda: cache.put(rows, stand.images, labels))
    stand.memory = PeakMemory(stand.device)

    def step(watch: Watch = unwatched) -> None:
        with watch("cache"):
            seen = cache.get(rows, labels.cpu())
            [features] = seen.features([method])
        stand.learn(learner, features, seen.labels[:, 0], watch)

    return Sample(stand.cost(step), None, _phases(stand, learner, step), cache.row_bytes, len(rows) / filled)


def source_alone(conditions: Conditions) -> Sample:
    """The limit of training online: the source's own pass and nothing else."""
    stand = BenchSetup(conditions)
    source = source_for_precision(stand.source, stand.recipe.precision)
    images = stand.images.contiguous(memory_format=torch.channels_last)
    stand.memory.restart()

    def step() -> None:
        with stand.fabric.autocast():
            source(images, frozenset())

    return Sample(stand.cost(step))


def delta_alone(conditions: Conditions, build: Build) -> Sample:
    """The limit of training on a cache: a method's own step, on features that are there already."""
    stand = BenchSetup(conditions)
    learner = stand.learner(build)
    features = stand.observe(learner, stand.images)

    def step() -> None:
        learner.method.sample_channels()  # drawn for each step: here all learn from the channels of the first
        stand.learn(learner, features, stand.labels)

    return Sample(stand.cost(step))


def decoding_alone(conditions: Conditions, pictures: Pictures) -> Sample:
    """The limit of any training from picture files: loading them and nothing else."""
    pipeline = Pipeline(BenchSetup(conditions), pictures)
    return Sample(pipeline=pipeline.images_per_second(lambda images, labels: None), phases=pipeline.phases())


def _phases(stand: BenchSetup, learner: Learner, step: Callable[[Watch], None]) -> dict[str, float]:
    """Seconds a picture, over a few more steps."""
    watch = Stopwatch(stand.wait)
    for module in learner.method.modules():
        if isinstance(module, Subscription):
            watch.follow(module, "gather")
    steps = max(2, stand.conditions.steps // 2)
    for _ in range(steps):
        step(watch)
    spent = watch.seconds
    spent["forward"] -= spent.setdefault("gather", 0.0)
    return {name: seconds / steps / len(stand.labels) for name, seconds in spent.items()}
