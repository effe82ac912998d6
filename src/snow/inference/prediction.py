"""Predictions: what a task says about one picture, and the JSON that every interface sends.

Shape letters: B pictures, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, final

from torch import Tensor

SOURCE_HEAD = "(source)"
"""Name under which the source's own head is asked, as if it were a task. No task can have this name."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(ABC):
    """What one task says about one picture. A new kind of prediction is one subclass.

    Attributes:
        kind: name of the kind in JSON.
        task: name of the task.
    """

    kind: ClassVar[str]
    task: str

    @classmethod
    @abstractmethod
    def from_logits(cls, task: str, classes: Sequence[str], logits: Tensor) -> list[Self]:
        """Decode logits: (B, C) -> B predictions.

        Args:
            classes: C names, in the order of the logits.
        """

    @abstractmethod
    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        """List (label, value) pairs as a table shows them, most important first; all of them if `k` is None."""

    @abstractmethod
    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """Convert to JSON values. `top_k` limits the number of classes; None keeps all."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class ClassPrediction(Prediction):
    """One class per picture: classes and their probabilities, most likely first.

    Tuples are made only when `classes` or `probabilities` is read: a server reads the first few of many classes.
    """

    kind: ClassVar[str] = "class"
    _names: Sequence[str]  # of the classes, in the order of the logits
    _ranking: Tensor  # (C,) indices of the classes, most likely first
    _probabilities: Tensor  # (C,) in the order of the ranking

    @classmethod
    def from_logits(cls, task: str, classes: Sequence[str], logits: Tensor) -> list[Self]:
        ranked = logits.float().softmax(1).sort(1, descending=True)
        rows = zip(ranked.indices.cpu(), ranked.values.cpu(), strict=True)
        return [cls(task, classes, ranking, probabilities) for ranking, probabilities in rows]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, most likely first."""
        return tuple(self._names[index] for index in self._ranking.tolist())

    @cached_property
    def probabilities(self) -> tuple[float, ...]:
        """Probabilities of `classes`."""
        return tuple(self._probabilities.tolist())

    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        names, indices, values = self._names, self._ranking[:k].tolist(), self._probabilities[:k].tolist()
        return [(names[index], value) for index, value in zip(indices, values, strict=True)]

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        ranked = [{"class": name, "probability": probability} for name, probability in self.top(top_k)]
        return {"kind": self.kind, "classes": ranked}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassPrediction) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"ClassPrediction(task={self.task!r}, classes={self.classes}, probabilities={self.probabilities})"

    def _values(self) -> tuple[object, ...]:
        return self.task, self.classes, self.probabilities


@final
@dataclass(frozen=True)
class Failure:
    """Stands in the place of a prediction that could not be made.

    Attributes:
        task: name of the task.
        error: one line that says why.
    """

    task: str
    error: str

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """Convert to JSON values."""
        return {"error": self.error}


def encode(
    image: str | None, predictions: Mapping[str, Prediction | Failure], top_k: int | None = None
) -> dict[str, Any]:
    """Convert the predictions for one picture to JSON values; the command line, the service and the page share this.

    Args:
        image: name of the picture, if it has one.
        predictions: task -> prediction.
        top_k: number of classes to list per task; None lists all.

    Returns:
        `{"image": ..., "tasks": {TASK: {"kind": "class", "classes": [{"class": ..., "probability": ...}, ...]}}}`,
        with `{"error": ...}` in the place of a task that failed.
    """
    return {"image": image, "tasks": {task: entry.to_dict(top_k) for task, entry in predictions.items()}}
