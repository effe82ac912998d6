"""What was measured at a few numbers, between them and beyond."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """`start + slope * x`, neither below zero."""

    start: float
    slope: float

    @classmethod
    def fit(cls, xs: Sequence[float], ys: Sequence[float]) -> Line:
        """The line with the least squares of relative errors; a flat one through a single point. `ys` are above 0."""
        if len(set(xs)) < 2:
            return cls(float(np.mean(ys)), 0.0)
        slope, start = np.polyfit(xs, ys, 1, w=1 / np.asarray(ys))
        if slope < 0:
            return cls(float(np.mean(ys)), 0.0)
        return cls(max(0.0, float(start)), float(slope))

    def at(self, x: float) -> float:
        return self.start + self.slope * x


@dataclass(frozen=True)
class Chain:
    """Straight from one measured point to the next, and on as the last two go; `xs` rise, there are two or more.

    Below the first point it is never less than in proportion: nobody measured that a smaller pass is cheaper than that.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def at(self, x: float) -> float:
        place = min(max(bisect_right(self.xs, x), 1), len(self.xs) - 1)
        (x0, x1), (y0, y1) = self.xs[place - 1 : place + 1], self.ys[place - 1 : place + 1]
        found = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return max(found, self.ys[0] * min(1.0, x / self.xs[0]))
