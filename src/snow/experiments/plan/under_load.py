"""Passes of a service that answers requests, compared with passes by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

STEPS = 50
"""Delays that are tried, from none to the longest."""

BUSY = 0.95
"""Most of a pass's time that arrivals may take in the fit."""


@dataclass(frozen=True)
class UnderLoad:
    """What a service's own work does to its passes.

    A pass of `n` pictures that takes `t` by itself takes `factor * n**exponent * t` in the service, where threads sleep
    between passes, and `delay` more for each picture that arrives meanwhile.

    Attributes:
        delay: seconds.
        largest: most pictures of a measured pass; larger ones are slowed down as much.
        variation: measured times of passes relative to what the three others say of them.
    """

    factor: float
    exponent: float
    delay: float
    largest: int
    variation: tuple[float, ...]

    def slowdown(self, pictures: int) -> float:
        return self.factor * min(pictures, self.largest) ** self.exponent

    @classmethod
    def fit(
        cls, loads: Sequence[Mapping[str, Any]], seconds: Callable[[int], float], longest_delay: float
    ) -> UnderLoad | None:
        """Fit to measured loads, by least squares of the relative errors of medians.

        Args:
            loads: as `snow bench serving` writes them: `per_second` and `passes`.
            seconds: of a pass by itself, by its pictures.
            longest_delay: seconds.

        Returns:
            None if the loads have passes of fewer than two sizes or rates.
        """
        passes = [
            (entry["pictures"], load["per_second"], entry["samples"])
            for load in loads
            for entry in load["passes"]
            if entry["samples"]
        ]
        sizes, rates = (np.array([found[index] for found in passes], float) for index in (0, 1))
        if len(set(sizes)) < 2 or len(set(rates)) < 2:
            return None
        alone = np.array([seconds(int(size)) for size in sizes])
        ratios = np.log(np.array([median(samples) for *_, samples in passes]) / alone)
        weights = np.sqrt([len(samples) for *_, samples in passes])
        columns = np.stack([np.ones_like(sizes), np.log(sizes)], 1) * weights[:, None]

        def solve(delay: float) -> tuple[float, np.ndarray]:
            without = (ratios + np.log1p(-np.minimum(BUSY, delay * rates))) * weights
            found = np.linalg.lstsq(columns, without, rcond=None)[0]
            return float(np.square(without - columns @ found).sum()), found

        delay = min(np.linspace(0.0, longest_delay, STEPS).tolist(), key=lambda delay: solve(delay)[0])
        start, exponent = solve(delay)[1].tolist()
        factor = float(np.exp(start))
        expected = factor * sizes**exponent * alone / (1 - np.minimum(BUSY, delay * rates))
        variation = [value / one for one, (*_, samples) in zip(expected, passes, strict=True) for value in samples]
        return cls(factor, exponent, delay, int(sizes.max()), tuple(sorted(map(float, variation))))
