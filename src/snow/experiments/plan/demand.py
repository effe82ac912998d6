"""What is asked of a service: how many pictures, and which tasks about each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from snow.errors import SnowError

ALL = "all"


@dataclass(frozen=True)
class TaskMix:
    """How many tasks a picture asks for: each of `counts` with its part of `weights`. Empty: all that there are.

    Raises:
        SnowError: a number below 1, a weight that is not above zero.
    """

    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.weights) or len(set(self.counts)) < len(self.counts):
            raise SnowError("each number of tasks has one weight")
        if any(count < 1 for count in self.counts):
            raise SnowError(f"a picture asks for at least one task, not {min(self.counts)}")
        if not all(0 < weight < float("inf") for weight in self.weights):
            raise SnowError("weights of numbers of tasks are above zero")

    @classmethod
    def parse(cls, text: str) -> TaskMix:
        """`all`; `3`; or `1:0.5,2:0.3,10:0.2`, numbers with how often they come.

        Raises:
            SnowError: it is something else.
        """
        if text.strip() == ALL:
            return cls()
        pairs = [part.partition(":") for part in text.split(",")]
        try:
            counts, weights = [int(count) for count, *_ in pairs], [float(weight or 1) for *_, weight in pairs]
        except ValueError:
            raise SnowError(f"tasks a picture are all, a number, or such as 1:0.7,6:0.3, not {text!r}") from None
        return cls(tuple(counts), tuple(weights))

    def mean(self, tasks: int) -> float:
        """Tasks that a picture asks for, of so many."""
        if not self.counts:
            return tasks
        return sum(count * weight for count, weight in zip(self.counts, self.weights, strict=True)) / sum(self.weights)

    def draw(self, chance: random.Random, tasks: int, pictures: int) -> list[int]:
        """For each picture how many."""
        return chance.choices(self.counts, self.weights, k=pictures) if self.counts else [tasks] * pictures

    def __str__(self) -> str:
        parts = [f"{count}:{weight:g}" for count, weight in zip(self.counts, self.weights, strict=True)]
        return (",".join(parts) if len(parts) > 1 else str(self.counts[0])) if parts else ALL


@dataclass(frozen=True)
class Demand:
    """Pictures come at random moments, one a request, and each asks for tasks at random, all as likely as each other.

    Attributes:
        rate: pictures a second.
        tasks: in the hub.
        mix: how many of these a picture asks for.

    Raises:
        SnowError: no picture, no task, or a picture that asks for more tasks than there are.
    """

    rate: float
    tasks: int
    mix: TaskMix = TaskMix()

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0):
            raise SnowError(f"the rate is a number of pictures a second above 0, not {self.rate:g}")
        if self.tasks < 1:
            raise SnowError(f"a hub to plan for has at least one task, not {self.tasks}")
        if self.mix.counts and max(self.mix.counts) > self.tasks:
            raise SnowError(f"a picture asks for {max(self.mix.counts)} tasks, but the hub has {self.tasks}")

    @property
    def asked(self) -> float:
        """Tasks that a picture asks for, in the mean."""
        return self.mix.mean(self.tasks)

    @property
    def all_alike(self) -> bool:
        """Whether every picture asks for every task."""
        return not self.mix.counts or self.mix.counts == (self.tasks,)

    def wanted(self, chance: random.Random, names: Sequence[str], pictures: int) -> list[list[str]]:
        """For each picture of a batch the names that it asks for."""
        return [chance.sample(names, count) for count in self.mix.draw(chance, self.tasks, pictures)]
