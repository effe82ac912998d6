"""The time of a batch whose pictures request random tasks."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter

from snow.experiments.plan.demand import Demand
from snow.experiments.plan.measurements import Measurements
from snow.inference import group_by_task

NAMES_PER_SIZE = 20_000
"""Task names drawn per batch size, about; it bounds the time to prepare a simulation."""

LEAST, MOST = 6, 128
"""Bounds of the number of random batches per batch size."""

EXACT = 16
"""Largest batch size that is sampled itself; larger ones are interpolated between sizes a quarter apart."""


class PassTimes:
    """Sample the seconds of a pass, for each batch size from some random batches.

    The service sorts the pictures of a batch by their tasks, and each task computes all rows from its first to its last
    (`snow.inference.group_by_task`). The same is done here, so that the time includes rows computed and dropped.
    """

    def __init__(self, measurements: Measurements, demand: Demand, seed: int = 0) -> None:
        self._measurements, self._demand, self._seed = measurements, demand, seed
        self._names = [f"{number:06}" for number in range(demand.tasks)]
        self._samples: dict[int, list[float]] = {}
        self._rng = random.Random(seed)

    def restart(self) -> None:
        """Reset the random generator, so that the next simulation draws the same."""
        self._rng = random.Random(self._seed)

    def draw(self, pictures: int) -> float:
        """Sample the time of one pass."""
        times = self._samples.get(pictures) or self._of(pictures)
        uniform = self._rng.random
        variation = self._measurements.ratios()
        return times[int(uniform() * len(times))] * variation[int(uniform() * len(variation))]

    def mean(self, pictures: int) -> float:
        """Average the time of a pass."""
        times, variation = self._of(pictures), self._measurements.ratios()
        return sum(times) / len(times) * sum(variation) / len(variation)

    def _of(self, pictures: int) -> list[float]:
        if pictures not in self._samples:
            self._samples[pictures] = self._interpolated(pictures)
        return self._samples[pictures]

    def _interpolated(self, pictures: int) -> list[float]:
        if pictures <= EXACT or self._demand.all_alike:
            return self._sampled(pictures)
        sizes = [EXACT]
        while sizes[-1] < pictures:
            sizes.append(sizes[-1] * 5 // 4)
        above = sizes[bisect_left(sizes, pictures)]
        if above == pictures:
            return self._sampled(pictures)
        below = sizes[-2]
        part = (pictures - below) / (above - below)
        return [low + part * (high - low) for low, high in zip(self._of(below), self._of(above), strict=False)]

    def _sampled(self, pictures: int) -> list[float]:
        demand = self._demand
        if demand.all_alike:
            return [self._measurements.seconds(pictures, [(pictures, demand.tasks)])]
        rng = random.Random(f"{self._seed} {pictures}")
        batches = min(MOST, max(LEAST, int(NAMES_PER_SIZE / (pictures * demand.mean_tasks))))
        return [self._seconds(demand.draw_tasks(rng, self._names, pictures)) for _ in range(batches)]

    def _seconds(self, requested: list[list[str]]) -> float:
        _, runs = group_by_task(requested)
        lengths = Counter(stop - start for start, stop in runs.values())
        return self._measurements.seconds(len(requested), lengths.items())
