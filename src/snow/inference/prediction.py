"""What tasks answer to pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from snow.errors import SnowError

SOURCE_HEAD = "(source)"
"""Asks for the answer of the source's own head among those of the tasks; no task can have this name."""


@dataclass(frozen=True)
class Answer:
    """One task's answer to one picture: classes with probabilities, most likely first."""

    task: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def of(cls, task: str, classes: Sequence[str], logits: Tensor) -> list[Answer]:
        """From logits (B, classes), one for each picture."""
        probabilities, ranked = (value.tolist() for value in logits.float().softmax(1).sort(1, descending=True))
        return [
            cls(task, tuple(classes[index] for index in indices), tuple(row))
            for row, indices in zip(probabilities, ranked, strict=True)
        ]


def wanted(tasks: Collection[str] | Sequence[Collection[str]], count: int) -> list[list[str]]:
    """For each of `count` pictures the names of tasks: all those named, or its own where there is a list for each.

    Raises:
        SnowError: there are more or fewer lists than pictures.
    """
    names = [each for each in tasks if isinstance(each, str)]
    if len(names) == len(tasks):
        return [names] * count
    if names or len(tasks) != count:
        raise SnowError(f"{count} pictures want {count} lists of tasks, one for each, or one list of names for all")
    return [list(each) for each in tasks]
