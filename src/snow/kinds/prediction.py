"""The base class of predictions: what a task says about one picture. Each kind of label has a subclass beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(ABC):
    """What one task says about one picture.

    Attributes:
        kind: name of the kind of label in JSON.
        task: name of the task.
        known: how much the picture resembles those that the task was trained on, 0..1; None for a task that keeps no
            statistics of them.
        rejected: the picture resembles them too little for the rate of false alarms that was asked for.
        traits: what a comparison of many pictures with those of training needs of this one, see
            `snow.inference.reference`; None for a task that keeps no reference. It is not part of the answer.
    """

    kind: ClassVar[str]
    task: str
    known: float | None = field(default=None, kw_only=True)
    rejected: bool = field(default=False, kw_only=True)
    traits: object = field(default=None, kw_only=True)

    @abstractmethod
    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        """List (label, value) pairs as a table shows them, most important first; all of them if `k` is None."""

    @abstractmethod
    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """Convert to JSON values. `top_k` limits the number of classes, tags or grades; None keeps all."""

    def _head(self) -> dict[str, Any]:
        """Return the JSON values that all kinds have in common."""
        return {"kind": self.kind, **({} if self.known is None else {"known": round(self.known, 6)})}


def with_unit(value: float, unit: str) -> str:
    """Write a number in four digits with its unit behind: `0.819 mm`, `12350`. From a million on it has an exponent."""
    return f"{float(f'{value:.4g}'):g} {unit}".strip()
