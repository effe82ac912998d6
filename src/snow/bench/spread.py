"""A figure that was measured several times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Spread:
    """The median of some samples, the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """Of one sample or more."""
        found = sorted(samples)
        return cls(median(found), found[0], found[-1])

    @property
    def range(self) -> tuple[float, float]:
        return self.least, self.most
