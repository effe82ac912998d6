"""One process's test stand: a source on a device, pictures in memory, and a training step like that of `snow train`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from snow.bench.conditions import Conditions
from snow.bench.memory import PeakMemory
from snow.engine.runtime import source_in
from snow.methods.method import Method
from snow.methods.observing import observe_each
from snow.source import Features, Source
from snow.training.launch import open_fabric
from snow.training.learner import Learner

WARM_UP = 2

Build = Callable[[Source, int], Method]
"""From a source and a number of classes to a fresh method."""


@dataclass(frozen=True)
class Cost:
    """What one process found.

    Attributes:
        images_per_second: by the median step, with pictures that are in memory already.
        peak_memory_bytes: see `PeakMemory`; above what the process held before the source was built.
    """

    images_per_second: float
    peak_memory_bytes: int


Watch = Callable[[str], AbstractContextManager[None]]


def unwatched(_name: str) -> AbstractContextManager[None]:
    return nullcontext()


class Stand:
    """Everything that a row needs. `images`: (B, 3, S, S) uint8, at random; `labels`: (B,)."""

    def __init__(self, conditions: Conditions) -> None:
        import timm  # noqa: F401  is no part of what a method takes

        self.conditions, self.recipe = conditions, conditions.recipe
        self.fabric = open_fabric(self.recipe.precision, conditions.accelerator)
        self.device = self.fabric.device
        torch.manual_seed(self.recipe.seed)
        self.memory = PeakMemory(self.device)
        self.source = Source.open(conditions.source, pretrained=False, image_size=conditions.image_size)
        self.fabric.to_device(self.source)
        size, batch = self.source.preprocessing.image_size, self.recipe.batch_size
        self.images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=self.device)
        self.labels = torch.randint(conditions.classes, (batch,), device=self.device)

    def learner(self, build: Build) -> Learner:
        """A method that has learned nothing yet, in training mode; the source is as training has it from then on."""
        method = build(self.source, self.conditions.classes).train()
        if method.uses_source:
            self.source = source_in(self.source, self.recipe.precision)
            self.memory.restart()
        self.fabric.to_device(method)
        return Learner(method.name, method, 0, self.recipe, self.device)

    def observe(self, learner: Learner, images: Tensor) -> Features:
        with self.fabric.autocast():
            [features] = observe_each(self.source, [learner.method], images)
        return features

    def learn(
        self,
        learner: Learner,
        features: Features,
        labels: Tensor,
        watch: Watch = unwatched,
    ) -> None:
        """The rest of a step once the source has been asked; `watch` is entered with the name of each phase."""
        learner.prepare(1.0, 0.5)
        with watch("forward"), self.fabric.autocast():
            loss, _ = learner.loss(features, labels, len(labels))
        with watch("backward"):
            loss.backward()
        with watch("optimizer"):
            learner.step()

    def cost(self, step: Callable[[], object]) -> Cost:
        """Of a step over `images`, or something as large."""
        for _ in range(WARM_UP):
            step()
        durations = [self.seconds(step) for _ in range(self.conditions.steps)]
        return Cost(self.recipe.batch_size / median(durations), self.memory.bytes)

    def seconds(self, work: Callable[[], object]) -> float:
        """How long it takes until the device is done."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def training_cost(conditions: Conditions, build: Build) -> Cost:
    """A method's step, source pass and all, on pictures that are in memory."""
    stand = Stand(conditions)
    learner = stand.learner(build)
    return stand.cost(lambda: stand.learn(learner, stand.observe(learner, stand.images), stand.labels))
