"""What a training step of a method costs: pictures a second and memory, each method in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from snow.bench.apart import interleaved
from snow.bench.conditions import Conditions
from snow.bench.spread import Spread
from snow.bench.stand import training_cost
from snow.compare.variant import Variant
from snow.training.recipe import Recipe

ROUNDS = 3
"""Times that each method is measured, in turn with the others."""


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
    conditions = Conditions(architecture, image_size, classes, recipe)
    calls = {variant.label: partial(training_cost, conditions, variant.build) for variant in methods}
    *_, samples = interleaved(calls, ROUNDS)
    costs = {}
    for label, found in samples.items():
        speed = Spread.of(sample.images_per_second for sample in found)
        memory = Spread.of(sample.peak_memory_bytes for sample in found)
        costs[label] = Cost(speed.median, speed.range, int(memory.median))
    return costs
