"""What a training step of a method costs: pictures a second and memory, each method in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from snow.bench import stand
from snow.bench.apart import apart, interleaved
from snow.bench.conditions import Conditions
from snow.bench.spread import Spread
from snow.compare.variant import Variant

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

    @classmethod
    def of(cls, samples: Sequence[stand.Cost]) -> Self:
        speed = Spread.of(sample.images_per_second for sample in samples)
        memory = Spread.of(sample.peak_memory_bytes for sample in samples)
        return cls(speed.median, speed.range, int(memory.median))


def measure(conditions: Conditions, methods: Sequence[Variant]) -> dict[str, Cost]:
    """Trains each method for a few steps on random pictures; the weights of the source do not matter here."""
    calls = {variant.label: partial(stand.training_cost, conditions, variant.build) for variant in methods}
    *_, samples = interleaved(calls, ROUNDS)
    return {label: Cost.of(found) for label, found in samples.items()}


def measure_once(conditions: Conditions, method: Variant) -> stand.Cost:
    """One round of one method."""
    return apart(method.label, partial(stand.training_cost, conditions, method.build))
