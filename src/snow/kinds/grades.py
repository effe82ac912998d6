"""One of several ordered grades per picture: a sigmoid for each step from a grade to the next.

With K grades a method has K - 1 outputs, `sigmoid(z_k) = P(grade > k)` (Frank & Hall, 2001; Niu et al., CVPR 2016).
They are made to fall before they are read. The answer is the median grade, which has the smallest expected error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.delta import BERNOULLI, Likelihood
from snow.errors import SnowError
from snow.kinds.kind import AnswerRow, Figure, LabelKind, LossOptions, Metrics
from snow.kinds.prediction import Prediction
from snow.kinds.quantity import is_measure, quantity, readable, require_decimals, unit_key

SCALES = (
    ("very low", "low", "medium", "high", "very high"),
    ("bad", "poor", "fair", "good", "very good", "excellent"),
    ("none", "minimal", "mild", "moderate", "severe", "extreme"),
    ("tiny", "small", "medium", "large", "huge"),
    ("fail", "pass"),
    ("never", "rarely", "sometimes", "often", "always"),
)
"""Words whose order is known. Other words need one from the user."""


@final
@dataclass(frozen=True)
class GradeKind(LabelKind):
    """One of several ordered grades per picture; `names` are in order, the lowest first.

    Grades that are numbers are the same however they are written: `1/3` and `0.3333333`.
    """

    name: ClassVar[str] = "ordered"
    output: ClassVar[str] = "probabilities"
    hits_title: ClassVar[str] = "grades right"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("mae_grades", "MAE in grades", False, False),
        Figure("top1", "top-1"),
    )
    likelihood: ClassVar[Likelihood | None] = BERNOULLI

    @classmethod
    def read(cls, cells: Sequence[str], option: str) -> list[str | None]:
        require_decimals(cells)
        named = {_key(grade): grade for grade in _grades(option)}
        return [named.get(_key(cell), readable(cell)) if cell else None for cell in cells]

    @classmethod
    def of_labels(cls, task: str, labels: Sequence[str], option: str) -> Self:
        present = sorted(set(labels))
        if len(present) < 2:
            number = f"only {present[0]!r}" if present else "none"
            raise SnowError(f"task {task!r} needs at least two grades, and there is {number}")
        grades = _grades(option) if option else known_order(present)
        if grades is None:
            example = "<".join(present)
            raise SnowError(f"the order of the grades of task {task!r} is not known: say it, as ordered:{example}")
        kind = cls(grades)
        if len(kind._places) < len(grades):
            raise SnowError(f"the order of the grades of task {task!r} names one twice: {option}")
        if kind.unknown(labels):
            raise SnowError(f"task {task!r} has the grade {kind.unknown(labels)[0]!r}, which the order does not name")
        return kind

    @cached_property
    def _places(self) -> dict[object, int]:
        """Number each grade, by what all its spellings have in common."""
        return {_key(name): number for number, name in enumerate(self.names)}

    def unknown(self, labels: Sequence[str]) -> list[str]:
        return sorted({label for label in labels if _key(label) not in self._places})

    def absent(self, labels: Sequence[str]) -> list[str]:
        present = {_key(label) for label in labels}
        return [name for name in self.names if _key(name) not in present]

    def strata(self, labels: Sequence[str]) -> list[int]:
        return [self._places[_key(label)] for label in labels]

    def targets(self, labels: Sequence[str]) -> Tensor | None:
        """1 for each step below the grade, 0 for the others: (M, K - 1)."""
        grades = torch.tensor(self.strata(labels), dtype=torch.int64)
        return (grades[:, None] > torch.arange(self.outputs)).float()

    def describe(self) -> str:
        return f"ordered, {len(self.names)} grades: {' < '.join(self.names)}"

    @property
    def outputs(self) -> int:
        return len(self.names) - 1

    def loss(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        """Sum over pictures of the mean binary cross-entropy over the steps."""
        known = labels.isfinite()
        smoothed = labels.nan_to_num() * (1 - options.smoothing) + options.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits.float(), smoothed, reduction="none")
        return (losses * known).sum() / max(1, self.outputs)

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ((_median(_falling(logits)) == labels.sum(1)) & labels.isfinite().all(1)).sum()

    def evidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Keep grade, answer and its probability: (b, 3)."""
        known = labels.isfinite().all(1)
        above = _falling(logits[known])
        answer = _median(above)
        probability = _shares(above).gather(1, answer[:, None]).flatten()
        return torch.stack([labels[known].sum(1), answer.to(probability), probability], 1)

    def metrics(self, evidence: Tensor) -> GradeMetrics:
        actual, predicted, probability = evidence.cpu().unbind(1)
        return GradeMetrics(len(evidence), self.names, actual.long(), predicted.long(), probability.double())

    def predictions(self, task: str, logits: Tensor) -> list[Prediction]:
        above = _falling(logits).cpu()
        answers = _median(above).tolist()
        return [
            GradePrediction(task, self.names, answer, shares)
            for answer, shares in zip(answers, _shares(above), strict=True)
        ]

    def decoded(self, logits: Tensor) -> Tensor:
        return _shares(_falling(logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        return _shares(_falling(logits))

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, names: Sequence[str], values: dict[str, Any]) -> Self:
        return cls(tuple(names))

    @classmethod
    def saved_outputs(cls, names: Sequence[str]) -> int:
        return len(names) - 1


def known_order(grades: Sequence[str]) -> tuple[str, ...] | None:
    """Order grades that are numbers, or words of one of `SCALES`; None where it is not known, as of mm and cm."""
    numbers = {grade: read for grade in grades if (read := quantity(grade)) is not None}
    if len(numbers) == len(grades):
        units = {unit_key(number.unit) for number in numbers.values()}
        if len(units) > 1 and any(map(is_measure, grades)):
            return None
        return tuple(sorted(grades, key=lambda grade: numbers[grade].value))
    for scale in SCALES:
        if all(grade.lower() in scale for grade in grades):
            return tuple(sorted(grades, key=lambda grade: scale.index(grade.lower())))
    return None


def _grades(option: str) -> tuple[str, ...]:
    """Split the order that the user named: `bad<fair<good`."""
    return tuple(name.strip() for name in option.split("<")) if option.strip() else ()


def _key(grade: str) -> object:
    """What all spellings of a grade have in common."""
    number = quantity(grade)
    return grade if number is None else number.key


def _falling(logits: Tensor) -> Tensor:
    """Turn outputs into probabilities that fall: (B, K - 1) -> (B, K - 1)."""
    above = list(logits.float().sigmoid().unbind(1))
    for step in range(1, len(above)):  # ONNX has no running minimum
        above[step] = torch.minimum(above[step], above[step - 1])
    return torch.stack(above, 1)


def _median(above: Tensor) -> Tensor:
    return (above > 0.5).sum(1)


def _shares(above: Tensor) -> Tensor:
    """Probability of each grade: (B, K - 1) -> (B, K)."""
    first = above[:, :1]
    steps = torch.cat([torch.ones_like(first), above, torch.zeros_like(first)], 1)
    return steps[:, :-1] - steps[:, 1:]


@dataclass(frozen=True)
class GradeMetrics(Metrics):
    """Mean distance in grades, and the share that is right.

    Attributes:
        names: grades in order.
        actual, predicted: (n,), numbers of grades.
        confidence: (n,), probability of the answer.
    """

    names: tuple[str, ...]
    actual: Tensor = field(compare=False, repr=False)
    predicted: Tensor = field(compare=False, repr=False)
    confidence: Tensor = field(compare=False, repr=False)

    @property
    def score(self) -> float:
        return -self.to_dict()["mae_grades"]

    @property
    def score_key(self) -> str:
        return "mae_grades"

    def to_dict(self) -> dict[str, Any]:
        distance = (self.actual - self.predicted).abs().double()
        mae, top1 = (float(distance.mean()), float((distance == 0).double().mean())) if self.images else (0.0, 0.0)
        return {"mae_grades": mae, "top1": top1, "images": self.images}

    def rows(self) -> list[AnswerRow]:
        triples = zip(self.actual.tolist(), self.predicted.tolist(), self.confidence.tolist(), strict=True)
        return [
            AnswerRow(self.names[actual], self.names[answer], abs(actual - answer) * confidence, confidence)
            for actual, answer, confidence in triples
        ]

    def details(self) -> dict[str, Any]:
        rows = {}
        for number, name in enumerate(self.names):
            answers = self.predicted[self.actual == number]
            predicted = {other: int((answers == k).sum()) for k, other in enumerate(self.names) if (answers == k).any()}
            right = predicted.get(name, 0)
            recall = right / len(answers) if len(answers) else None
            rows[name] = {"images": len(answers), "correct": right, "recall": recall, "predicted": predicted}
        return {"per_class": rows}


@final
@dataclass(frozen=True, eq=False)
class GradePrediction(Prediction):
    """The median grade, and the probability of each.

    Attributes:
        names: grades in order.
        index: of the answer.
        probabilities: (K,), of each grade.
    """

    kind: ClassVar[str] = GradeKind.name
    names: Sequence[str]
    index: int
    probabilities: Tensor

    @property
    def grade(self) -> str:
        """Name of the answer."""
        return self.names[self.index]

    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        values = self.probabilities.tolist()
        others = sorted((n for n in range(len(values)) if n != self.index), key=lambda n: -values[n])
        return [(self.names[n], values[n]) for n in [self.index, *others][:k]]

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """All grades are listed, in their order."""
        shares = zip(self.names, self.probabilities.tolist(), strict=True)
        head = self._head()
        return {
            "kind": head.pop("kind"),
            "grade": None if self.rejected else self.grade,
            **head,
            "grades": [{"grade": name, "probability": value} for name, value in shares],
        }
