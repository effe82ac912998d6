"""The load on a service: pictures per second, and how many tasks each of them requests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from snow.errors import SnowError

ALL = "all"


@dataclass(frozen=True)
class TaskMix:
    """Distribution of the number of tasks per picture: `counts` with their `weights`. Empty: all tasks of the hub.

    Raises:
        SnowError: a count below 1, a weight that is not positive, or a count given twice.
    """

    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.weights) or len(set(self.counts)) < len(self.counts):
            raise SnowError("each number of tasks takes exactly one weight")
        if any(count < 1 for count in self.counts):
            raise SnowError(f"a picture requests at least one task, not {min(self.counts)}")
        if not all(0 < weight < float("inf") for weight in self.weights):
            raise SnowError("the weights of a task mix must be numbers above 0")

    @classmethod
    def parse(cls, text: str) -> TaskMix:
        """Parse `all`, a number such as `3`, or counts with weights such as `1:0.5,2:0.3,10:0.2`.

        Raises:
            SnowError: `text` has another form.
        """
        if text.strip() == ALL:
            return cls()
        pairs = [part.partition(":") for part in text.split(",")]
        try:
            counts, weights = [int(count) for count, *_ in pairs], [float(weight or 1) for *_, weight in pairs]
        except ValueError:
            raise SnowError(
                f"a task mix is all, a number, or counts with weights such as 1:0.7,6:0.3, not {text!r}"
            ) from None
        return cls(tuple(counts), tuple(weights))

    def mean(self, tasks: int) -> float:
        """Average the number of tasks per picture, in a hub of `tasks`."""
        if not self.counts:
            return tasks
        return sum(count * weight for count, weight in zip(self.counts, self.weights, strict=True)) / sum(self.weights)

    def draw(self, rng: random.Random, tasks: int, pictures: int) -> list[int]:
        """Draw the number of tasks of each picture."""
        return rng.choices(self.counts, self.weights, k=pictures) if self.counts else [tasks] * pictures

    def __str__(self) -> str:
        parts = [f"{count}:{weight:g}" for count, weight in zip(self.counts, self.weights, strict=True)]
        return (",".join(parts) if len(parts) > 1 else str(self.counts[0])) if parts else ALL


@dataclass(frozen=True)
class Demand:
    """A load: pictures arrive at random, one per request, and each requests tasks drawn uniformly from the hub.

    Attributes:
        rate: pictures per second.
        tasks: number of tasks in the hub.
        mix: how many of them a picture requests.

    Raises:
        SnowError: a rate or number of tasks below its minimum, or a mix that requests more tasks than the hub has.
    """

    rate: float
    tasks: int
    mix: TaskMix = TaskMix()

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0):
            raise SnowError(f"the rate must be a number of pictures per second above 0, not {self.rate:g}")
        if self.tasks < 1:
            raise SnowError(f"a hub to plan for has at least one task, not {self.tasks}")
        if self.mix.counts and max(self.mix.counts) > self.tasks:
            raise SnowError(f"a picture requests {max(self.mix.counts)} tasks, but the hub has {self.tasks}")

    @property
    def mean_tasks(self) -> float:
        """Average number of tasks per picture."""
        return self.mix.mean(self.tasks)

    @property
    def all_alike(self) -> bool:
        """Whether every picture requests every task."""
        return not self.mix.counts or self.mix.counts == (self.tasks,)

    def draw_tasks(self, rng: random.Random, names: Sequence[str], pictures: int) -> list[list[str]]:
        """Draw the names of the tasks that each picture of a batch requests."""
        return [rng.sample(names, count) for count in self.mix.draw(rng, self.tasks, pictures)]
