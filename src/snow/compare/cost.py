"""What a training step of a method costs: pictures a second and memory, each method in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median

import torch

from snow.compare.variant import Variant
from snow.methods.observing import observe
from snow.source import Source
from snow.training.launch import open_fabric
from snow.training.learner import Learner
from snow.training.recipe import Recipe

ROUNDS = 3
"""Times that each method is measured, in turn with the others: a machine's speed drifts."""

STEPS = 5


@dataclass(frozen=True)
class Cost:
    """The median over rounds and their range.

    Attributes:
        images_per_second: with pictures that are in memory already.
        peak_memory_bytes: of the GPU's allocator, or of the process above what it had before the source was built.
    """

    images_per_second: float
    images_per_second_range: tuple[float, float]
    peak_memory_bytes: int


def measure(
    architecture: str,
    image_size: int,
    classes: int,
    methods: Sequence[Variant],
    recipe: Recipe,
) -> dict[str, Cost]:
    """Trains each method for a few steps on random pictures; the weights of the source do not matter here."""
    samples: dict[str, list[tuple[float, int]]] = {variant.label: [] for variant in methods}
    for _ in range(ROUNDS):
        for variant in methods:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                call = process.submit(_steps, architecture, image_size, classes, variant, recipe)
                samples[variant.label].append(call.result())
    return {name: _summary(found) for name, found in samples.items()}


def _summary(samples: Sequence[tuple[float, int]]) -> Cost:
    speeds = [speed for speed, _ in samples]
    return Cost(median(speeds), (min(speeds), max(speeds)), int(median(memory for _, memory in samples)))


def _steps(architecture: str, image_size: int, classes: int, variant: Variant, recipe: Recipe) -> tuple[float, int]:
    fabric = open_fabric(recipe.precision)
    device = fabric.device
    torch.manual_seed(recipe.seed)
    images = torch.randint(256, (recipe.batch_size, 3, image_size, image_size), dtype=torch.uint8, device=device)
    labels = torch.randint(classes, (recipe.batch_size,), device=device)
    idle = _resident_bytes()
    source = Source.open(architecture, pretrained=False, image_size=image_size)
    method = variant.build(source, classes).train()
    fabric.to_device(source)
    fabric.to_device(method)
    learner = Learner(variant.label, method, 0, recipe, device)

    def step() -> None:
        learner.prepare(1.0, 0.5)
        with fabric.autocast():
            features = observe(source, [method], images)
            loss, _ = learner.loss(features, labels, len(labels))
        loss.backward()
        learner.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        step()
    durations = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        durations.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak_bytes() - idle
    return len(labels) / median(durations), peak


def _resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most that it has held."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
