"""One class per picture: softmax, cross-entropy, top-1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.delta import CATEGORICAL, Likelihood
from snow.errors import SnowError
from snow.kinds.choices import named_weights
from snow.kinds.kind import AnswerRow, BadCellError, Figure, LabelKind, LossOptions, Metrics
from snow.kinds.prediction import Prediction
from snow.kinds.scores import balanced_accuracy, calibration_error, macro_f1, reliability

TOP = 5


@final
@dataclass(frozen=True)
class ClassKind(LabelKind):
    """One class per picture. Class k of the labels is `names[k]`."""

    name: ClassVar[str] = "class"
    output: ClassVar[str] = "logits"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("top1", "top-1"),
        Figure("top5", "top-5"),
        Figure("balanced_accuracy", "balanced"),
        Figure("macro_f1", "macro F1"),
        Figure("ece", "ECE", rises=False),
    )
    likelihood: ClassVar[Likelihood | None] = CATEGORICAL

    @classmethod
    def read(cls, cells: Sequence[str], option: str) -> list[str | None]:
        if option:
            raise BadCellError(0, f"kind class has no option, got {option!r}")
        return [cell or None for cell in cells]

    @classmethod
    def of_labels(cls, task: str, labels: Sequence[str], option: str) -> Self:
        return cls(tuple(sorted(set(labels))))

    def unknown(self, labels: Sequence[str]) -> list[str]:
        return sorted(set(labels) - set(self.names))

    def absent(self, labels: Sequence[str]) -> list[str]:
        present = set(labels)
        return [name for name in self.names if name not in present]

    def strata(self, labels: Sequence[str]) -> list[int]:
        return list(range(len(labels)))

    def targets(self, labels: Sequence[str]) -> Tensor | None:
        return None

    def describe(self) -> str:
        return f"class, {len(self.names)} classes"

    @property
    def outputs(self) -> int:
        return len(self.names)

    def loss(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        return F.cross_entropy(
            logits.float(),
            labels,
            weight=options.weights,
            ignore_index=-1,
            reduction="sum",
            label_smoothing=options.smoothing,
        )

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.argmax(1) == labels).sum()

    def weights(self, labels: Tensor, choice: str) -> Tensor | None:
        """Weights whose mean over the training pictures is 1: n / (C * n_c) with `balanced`."""
        counts = labels[labels >= 0].bincount(minlength=len(self.names)).double()
        if choice == "balanced":
            weights = 1 / counts.clamp(min=1)
        else:
            named = named_weights(choice, self.names)
            if not named:
                return None
            weights = torch.tensor([named.get(name, 1.0) for name in self.names], dtype=torch.float64)
        return (weights * counts.sum() / (weights * counts).sum()).float()

    def evidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Keep label, prediction, its probability, and the rank of the label, `TOP` if it is not among the first."""
        labelled = labels >= 0
        logits, labels = logits[labelled].float(), labels[labelled]
        ranked = logits.topk(min(TOP, logits.shape[1])).indices
        correct = ranked == labels[:, None]
        rank = torch.where(correct.any(1), correct.int().argmax(1), TOP)
        confidence = logits.softmax(1).amax(1)
        return torch.stack([labels.float(), ranked[:, 0].float(), confidence, rank.float()], 1)

    def metrics(self, evidence: Tensor) -> ClassMetrics:
        rank = evidence[:, 3]
        top1, top5 = (int((rank < k).sum()) / max(1, len(evidence)) for k in (1, TOP))
        return ClassMetrics(len(evidence), top1, top5, evidence.cpu(), self.names)

    def predictions(self, task: str, logits: Tensor) -> list[Prediction]:
        return list(ClassPrediction.from_logits(task, self.names, logits))

    def decoded(self, logits: Tensor) -> Tensor:
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1)

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, names: Sequence[str], values: dict[str, Any]) -> Self:
        return cls(tuple(names))


@dataclass(frozen=True)
class ClassMetrics(Metrics):
    """Top-1 and top-5 accuracy on `images` labelled pictures, as fractions.

    Attributes:
        evidence: (n, 4), what `ClassKind.evidence` kept.
        names: classes.
    """

    top1: float
    top5: float
    evidence: Tensor | None = field(default=None, compare=False, repr=False)
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def score(self) -> float:
        return self.top1

    @property
    def score_key(self) -> str:
        return "top1"

    @cached_property
    def confusion(self) -> Tensor | None:
        """Count pictures by class and predicted class: (C, C)."""
        if self.evidence is None:
            return None
        label, predicted, count = *self.evidence[:, :2].long().unbind(1), len(self.names)
        return (label * count + predicted).bincount(minlength=count**2).view(count, count)

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"top1": self.top1, "top5": self.top5, "images": self.images}
        if self.confusion is None or self.evidence is None:
            return values
        return {
            **values,
            "balanced_accuracy": balanced_accuracy(self.confusion),
            "macro_f1": macro_f1(self.confusion),
            "ece": calibration_error(*_confidence(self.evidence)),
        }

    def details(self) -> dict[str, Any]:
        return {"per_class": self.per_class(self.names)}

    def curves(self) -> dict[str, Any]:
        return {} if self.evidence is None else {"reliability": reliability(*_confidence(self.evidence))}

    def rows(self) -> list[AnswerRow]:
        if self.evidence is None:
            return []
        return [
            AnswerRow(self.names[int(label)], self.names[int(answer)], float(rank > 0) * confidence, confidence)
            for label, answer, confidence, rank in self.evidence.tolist()
        ]

    def per_class(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Describe each class: its pictures, those of them that were recognised, and what they were taken for.

        Args:
            classes: names in the order of the logits.

        Returns:
            `{CLASS: {"images", "correct", "recall", "predicted": {CLASS: pictures}}}`, with a recall of None for a
            class without pictures, and only predicted classes that occur.
        """
        if self.confusion is None:
            raise SnowError("predictions were not counted by class: evaluate again")
        rows: dict[str, dict[str, Any]] = {}
        for number, (name, row) in enumerate(zip(classes, self.confusion, strict=True)):
            images, correct = int(row.sum()), int(row[number])
            predicted = {classes[other]: int(row[other]) for other in row.nonzero().flatten().tolist()}
            recall = correct / images if images else None
            rows[name] = {"images": images, "correct": correct, "recall": recall, "predicted": predicted}
        return rows


def _confidence(evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each prediction, and whether it is right."""
    return evidence[:, 2].double(), evidence[:, 0] == evidence[:, 1]


@final
@dataclass(frozen=True, eq=False, repr=False)
class ClassPrediction(Prediction):
    """One class per picture: classes and their probabilities, most likely first.

    Tuples are made only when `classes` or `probabilities` is read: a server reads the first few of many classes.
    """

    kind: ClassVar[str] = ClassKind.name
    _names: Sequence[str]  # of the classes, in the order of the logits
    _ranking: Tensor  # (C,) indices of the classes, most likely first
    _probabilities: Tensor  # (C,) in the order of the ranking

    @classmethod
    def from_logits(cls, task: str, classes: Sequence[str], logits: Tensor) -> list[Self]:
        """Decode logits: (B, C) -> B predictions.

        Args:
            classes: C names, in the order of the logits.
        """
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
        return {**self._head(), **({"class": None} if self.rejected else {}), "classes": ranked}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassPrediction) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"ClassPrediction(task={self.task!r}, classes={self.classes}, probabilities={self.probabilities})"

    def _values(self) -> tuple[object, ...]:
        return self.task, self.classes, self.probabilities
