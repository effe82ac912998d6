"""What all rows of a bench have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from snow.inference.features import observe_channels
from snow.inference.onnx_backend import source_for_precision
from snow.methods import Method
from snow.process.memory import PeakMemory
from snow.source import Features, Source
from snow.training import Recipe
from snow.training.launch import open_fabric
from snow.training.learner import Learner


@dataclass(frozen=True)
class Conditions:
    """Source, pictures and recipe of a bench.

    Attributes:
        source: as `Source.open` takes it. Its weights do not matter, and are not looked for.
        image_size: side of the pictures in pixels.
        classes: of the task.
        recipe: batch size, precision, optimizer, augmentation, loading processes and seed.
        accelerator: "auto", "cpu", "cuda" or "mps".
        steps: that are timed, after two that are not.
    """

    source: str
    image_size: int
    classes: int
    recipe: Recipe
    accelerator: str = "auto"
    steps: int = 5


class Stopwatch:
    """Adds up seconds by name. A device is waited for on either side, so phases that would overlap stand apart.

    Args:
        wait: returns when the device is done.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait
        self._started = 0.0

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self._add(name, time.perf_counter() - started)

    def follow(self, module: nn.Module, name: str) -> None:
        """Counts the time of a module's forward."""
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(lambda *_: self._stop(name))

    def _start(self, *_: object) -> None:
        self._wait()
        self._started = time.perf_counter()

    def _stop(self, name: str) -> None:
        self._wait()
        self._add(name, time.perf_counter() - self._started)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


WARM_UP = 2

Build = Callable[[Source, int], Method]
"""From a source and a number of classes to a fresh method."""


@dataclass(frozen=True)
class StepCost:
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


class BenchSetup:
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
            self.source = source_for_precision(self.source, self.recipe.precision)
            self.memory.restart()
        self.fabric.to_device(method)
        return Learner(method.name, method, 0, self.recipe, self.device)

    def observe(self, learner: Learner, images: Tensor) -> Features:
        with self.fabric.autocast():
            [features] = observe_channels(self.source, [learner.method], images)
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

    def cost(self, step: Callable[[], object]) -> StepCost:
        """Of a step over `images`, or something as large."""
        for _ in range(WARM_UP):
            step()
        durations = [self.seconds(step) for _ in range(self.conditions.steps)]
        return StepCost(self.recipe.batch_size / median(durations), self.memory.bytes)

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


def training_cost(conditions: Conditions, build: Build) -> StepCost:
    """A method's step, source pass and all, on pictures that are in memory."""
    stand = BenchSetup(conditions)
    learner = stand.learner(build)
    return stand.cost(lambda: stand.learn(learner, stand.observe(learner, stand.images), stand.labels))
