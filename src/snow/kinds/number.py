"""A number per picture (regression): standardised inside, in the units of the data outside.

A label is a number as Python writes it, with its unit behind a space if it has one: `12.5 mm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.delta import NORMAL, Likelihood
from snow.errors import SnowError
from snow.kinds.kind import AnswerRow, Figure, LabelKind, LossOptions, Metrics
from snow.kinds.prediction import Prediction, with_unit
from snow.kinds.quantity import read_quantities, require_one_unit, unit_key
from snow.kinds.scores import r2, spearman

STRATA = 5
"""Parts of the range that are divided alike between training and test pictures."""

CLOSE = 0.5
"""Standard deviations within which an answer counts as right while training is reported, see `hits_title`."""


@final
@dataclass(frozen=True)
class NumberKind(LabelKind):
    """A number per picture.

    Attributes:
        mean, std: of the training pictures; a method learns `(number - mean) / std`.
        low, high: smallest and largest number of the training pictures.
        unit: behind every number; "" if there is none.
    """

    name: ClassVar[str] = "number"
    output: ClassVar[str] = "value"
    hits_title: ClassVar[str] = "within 0.5 SD"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("mae", "MAE", False, False, True),
        Figure("rmse", "RMSE", False, False, True),
        Figure("r2", "R²", False),
        Figure("spearman", "Spearman", False),
    )
    likelihood: ClassVar[Likelihood | None] = NORMAL
    names: tuple[str, ...] = field(default=(), init=False)
    mean: float
    std: float
    low: float
    high: float
    unit: str = ""

    @classmethod
    def read(cls, cells: Sequence[str], option: str) -> list[str | None]:
        read = read_quantities(cells)
        unit = require_one_unit(read, option.strip())
        return [None if number is None else f"{number.value!r} {unit}".strip() for number in read]

    @classmethod
    def of_labels(cls, task: str, labels: Sequence[str], option: str) -> Self:
        values = torch.tensor([_value(label) for label in labels], dtype=torch.float64)
        if len(set(values.tolist())) < 2:
            same = f"only {labels[0]}" if labels else "none"
            raise SnowError(f"task {task!r} needs at least two different numbers, and there is {same}")
        std = float(values.std(correction=0))
        return cls(float(values.mean()), std, float(values.min()), float(values.max()), _unit(labels[0]))

    def unknown(self, labels: Sequence[str]) -> list[str]:
        own = ("", unit_key(self.unit))
        return sorted({f"unit {_unit(label)!r}" for label in labels if unit_key(_unit(label)) not in own})

    def absent(self, labels: Sequence[str]) -> list[str]:
        return []

    def strata(self, labels: Sequence[str]) -> list[int]:
        values = torch.tensor([_value(label) for label in labels], dtype=torch.float64)
        return (values.argsort().argsort() * STRATA // max(1, len(labels))).tolist()

    def targets(self, labels: Sequence[str]) -> Tensor | None:
        return torch.tensor([[_value(label)] for label in labels], dtype=torch.float64).view(-1, 1)

    def standardised(self, targets: Tensor) -> Tensor:
        return ((targets - self.mean) / self.std).float()

    def describe(self) -> str:
        return f"number, {self.low:g} to {self.high:g}{' ' * bool(self.unit)}{self.unit}"

    @property
    def outputs(self) -> int:
        return 1

    def loss(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        known = labels.isfinite()
        error = torch.where(known, logits.float() - self.standardised(labels).nan_to_num(), 0.0)
        if options.squared:
            return error.square().sum()
        return F.huber_loss(error, torch.zeros_like(error), reduction="sum")

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ((logits - self.standardised(labels)).abs() <= CLOSE).sum()

    def evidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Keep number and answer: (b, 2)."""
        known = labels.isfinite().all(1)
        return torch.cat([labels[known].double(), self._numbers(logits[known])], 1)

    def metrics(self, evidence: Tensor) -> NumberMetrics:
        actual, predicted = evidence.cpu().double().unbind(1)
        return NumberMetrics(len(evidence), actual, predicted)

    def figure_texts(self, values: Mapping[str, object]) -> list[str]:
        return [figure.text(values.get(figure.key), self.unit) for figure in self.figures]

    def predictions(self, task: str, logits: Tensor) -> list[Prediction]:
        return [NumberPrediction(task, value, self.unit) for value in self._numbers(logits).flatten().tolist()]

    def decoded(self, logits: Tensor) -> Tensor:
        return logits * self.std + self.mean

    def probabilities(self, logits: Tensor) -> Tensor:
        raise SnowError("a task of kind number has no probabilities: use predict")

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high, "unit": self.unit}

    @classmethod
    def from_dict(cls, names: Sequence[str], values: dict[str, Any]) -> Self:
        numbers = [values.get(name) for name in ("mean", "std", "low", "high")]
        sound = [float(x) for x in numbers if isinstance(x, int | float) and math.isfinite(x)]
        unit = values.get("unit", "")
        if names or len(sound) < 4 or not sound[1] > 0 or not isinstance(unit, str):
            raise SnowError("the range of the numbers is missing or damaged")
        return cls(sound[0], sound[1], sound[2], sound[3], unit)

    @classmethod
    def saved_outputs(cls, names: Sequence[str]) -> int:
        return 1

    def _numbers(self, logits: Tensor) -> Tensor:
        return logits.double() * self.std + self.mean


def _value(label: str) -> float:
    return float(label.partition(" ")[0])


def _unit(label: str) -> str:
    return label.partition(" ")[2]


@dataclass(frozen=True)
class NumberMetrics(Metrics):
    """Errors in the units of the data.

    Attributes:
        actual, predicted: (n,).
    """

    actual: Tensor = field(compare=False, repr=False)
    predicted: Tensor = field(compare=False, repr=False)

    @property
    def score(self) -> float:
        """R², which does not depend on units; the negative error where all numbers are the same."""
        explained = r2(self.actual, self.predicted)
        return self._mae * -1.0 if explained is None else explained

    @property
    def score_key(self) -> str:
        return "mae" if r2(self.actual, self.predicted) is None else "r2"

    @cached_property
    def _mae(self) -> float:
        return float((self.actual - self.predicted).abs().mean()) if self.images else 0.0

    def to_dict(self) -> dict[str, Any]:
        squared = float((self.actual - self.predicted).square().mean()) if self.images else 0.0
        return {
            "mae": self._mae,
            "rmse": squared**0.5,
            "r2": r2(self.actual, self.predicted),
            "spearman": spearman(self.actual, self.predicted) if self.images else None,
            "images": self.images,
        }

    def details(self) -> dict[str, Any]:
        return {}

    def rows(self) -> list[AnswerRow]:
        pairs = zip(self.actual.tolist(), self.predicted.tolist(), strict=True)
        return [AnswerRow(f"{actual:g}", f"{answer:.6g}", abs(actual - answer)) for actual, answer in pairs]


@final
@dataclass(frozen=True)
class NumberPrediction(Prediction):
    """A number.

    Attributes:
        value: in the units of the data.
        unit: "" if there is none.
    """

    kind: ClassVar[str] = NumberKind.name
    value: float
    unit: str = ""

    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        """The number with its unit, in a few digits, and as it is."""
        return [(with_unit(self.value, self.unit), self.value)]

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        head = self._head()
        unit = {"unit": self.unit} if self.unit else {}
        return {"kind": head.pop("kind"), "value": self.value, **unit, **head}
