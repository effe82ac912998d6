"""The rows of `snow bench training`, each a function that one process runs once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from snow.bench.conditions import Conditions
from snow.bench.pipeline import Pipeline
from snow.bench.stand import Build, Cost, Stand
from snow.bench.stopwatch import Stopwatch
from snow.data.pictures import Pictures
from snow.subscribe import Subscription
from snow.training.learner import Learner


@dataclass(frozen=True)
class Sample:
    """What one process found.

    Attributes:
        cost: None where nothing is held in memory.
        pipeline: images a second from picture files; None where none are read.
        phases: seconds a picture by name.
    """

    cost: Cost | None = None
    pipeline: float | None = None
    phases: dict[str, float] = field(default_factory=dict)


def method(conditions: Conditions, build: Build, pictures: Pictures) -> Sample:
    """A whole training step: from memory, from picture files, and phase by phase."""
    stand = Stand(conditions)
    learner = stand.learner(build)

    def step(images: Tensor, labels: Tensor) -> None:
        stand.learn(learner, stand.observe(learner, images), labels)

    cost = stand.cost(partial(step, stand.images, stand.labels))
    speed = Pipeline(stand, pictures).images_per_second(step)
    return Sample(cost, speed, _phases(stand, learner))


def source_alone(conditions: Conditions) -> Sample:
    """The limit of training online: the source's own pass and nothing else."""
    stand = Stand(conditions)
    images = stand.images.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with stand.fabric.autocast():
            stand.source(images, frozenset())

    return Sample(stand.cost(step))


def delta_alone(conditions: Conditions, build: Build) -> Sample:
    """The limit of training on a cache: a method's own step, on features that are there already."""
    stand = Stand(conditions)
    learner = stand.learner(build)
    features = stand.observe(learner, stand.images)
    return Sample(stand.cost(lambda: stand.learn(learner, features, stand.labels)))


def decoding_alone(conditions: Conditions, pictures: Pictures) -> Sample:
    """The limit of any training from picture files: loading them and nothing else."""
    pipeline = Pipeline(Stand(conditions), pictures)
    return Sample(pipeline=pipeline.images_per_second(lambda images, labels: None), phases=pipeline.phases())


def _phases(stand: Stand, learner: Learner) -> dict[str, float]:
    """Seconds a picture, over a few more steps."""
    watch = Stopwatch(stand.wait)
    for module in learner.method.modules():
        if isinstance(module, Subscription):
            watch.follow(module, "gather")
    steps = max(2, stand.conditions.steps // 2)
    for _ in range(steps):
        with watch("source"):
            features = stand.observe(learner, stand.images)
        stand.learn(learner, features, stand.labels, watch)
    spent = watch.seconds
    spent["forward"] -= spent.setdefault("gather", 0.0)
    return {name: seconds / steps / len(stand.labels) for name, seconds in spent.items()}
