"""How long passes take when pictures ask for tasks at random."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter

from snow.experiments.plan.demand import Demand
from snow.experiments.plan.figures import Figures
from snow.inference import group_by_task

WORK = 20_000
"""Names in the batches that are drawn for a size of batch, about."""

LEAST, MOST = 6, 128
"""Batches that are drawn for a size of batch."""

EXACT = 16
"""Beyond this size some sizes are drawn, a quarter apart, and those between are reckoned from them."""


class Times:
    """Draws what a pass takes, in seconds: for each size of batch from some batches that were put together at random.

    In a batch the service makes neighbours of pictures that want the same (`snow.inference.engine`), and a task answers
    all from its first to its last; the same is done here, so that what is answered in vain is counted.
    """

    def __init__(self, figures: Figures, demand: Demand, seed: int = 0) -> None:
        self._figures, self._demand, self._seed = figures, demand, seed
        self._names = [f"{number:06}" for number in range(demand.tasks)]
        self._drawn: dict[int, list[float]] = {}
        self._chance = random.Random(seed)

    def restart(self) -> None:
        """From here on the same is drawn as from the start."""
        self._chance = random.Random(self._seed)

    def draw(self, pictures: int) -> float:
        """What one pass takes."""
        found = self._drawn.get(pictures) or self._of(pictures)
        random_ = self._chance.random
        spread = self._figures.spread
        return found[int(random_() * len(found))] * spread[int(random_() * len(spread))]

    def mean(self, pictures: int) -> float:
        """What passes of this size take in the mean."""
        found, spread = self._of(pictures), self._figures.spread
        return sum(found) / len(found) * sum(spread) / len(spread)

    def _of(self, pictures: int) -> list[float]:
        if pictures not in self._drawn:
            self._drawn[pictures] = self._between(pictures)
        return self._drawn[pictures]

    def _between(self, pictures: int) -> list[float]:
        if pictures <= EXACT or self._demand.all_alike:
            return self._put_together(pictures)
        sizes = [EXACT]
        while sizes[-1] < pictures:
            sizes.append(sizes[-1] * 5 // 4)
        above = sizes[bisect_left(sizes, pictures)]
        if above == pictures:
            return self._put_together(pictures)
        below = sizes[-2]
        part = (pictures - below) / (above - below)
        return [low + part * (high - low) for low, high in zip(self._of(below), self._of(above), strict=False)]

    def _put_together(self, pictures: int) -> list[float]:
        demand = self._demand
        if demand.all_alike:
            return [self._figures.seconds(pictures, [(pictures, demand.tasks)])]
        chance = random.Random(f"{self._seed} {pictures}")
        batches = min(MOST, max(LEAST, int(WORK / (pictures * demand.asked))))
        return [self._seconds(demand.wanted(chance, self._names, pictures)) for _ in range(batches)]

    def _seconds(self, wanted: list[list[str]]) -> float:
        _, runs = group_by_task(wanted)
        lengths = Counter(stop - start for start, stop in runs.values())
        return self._figures.seconds(len(wanted), lengths.items())
