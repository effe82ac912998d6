"""Any number of tags per picture (multi-label): a sigmoid and a threshold for each tag.

A label is a JSON list of the picture's tags, `["dented", "red"]`, or, where a table has a column for each tag, a JSON
object of those that it speaks of, `{"dented": 1, "red": 0}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.delta import BERNOULLI, Likelihood
from snow.errors import SnowError
from snow.kinds.choices import KindSpec, ThresholdTarget, named_weights
from snow.kinds.kind import AnswerRow, BadCellError, Figure, LabelKind, LossOptions, Metrics
from snow.kinds.prediction import Prediction
from snow.kinds.scores import average_precision, f1, threshold_for

SEPARATORS = ("|", ";", ",")
"""Tried in this order where the user names none."""

NO_TAG = frozenset({"none", "no tag", "-", "[]", "{}"})
"""Cells, in lower case, that say that a picture has no tag. An empty cell says nothing."""

LARGEST_WEIGHT = 100.0
"""Of the pictures with a rare tag against those without."""


@final
@dataclass(frozen=True)
class TagKind(LabelKind):
    """Any number of tags per picture.

    Attributes:
        thresholds: a tag is on from this probability; picked on held-out pictures, else 0.5.
        separator: between the tags of a cell; "" is found from the cells.
    """

    name: ClassVar[str] = "multi"
    output: ClassVar[str] = "probabilities"
    hits_title: ClassVar[str] = "tags right"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("map", "mAP"),
        Figure("micro_f1", "micro F1"),
        Figure("macro_f1", "macro F1"),
    )
    tunable: ClassVar[bool] = True
    likelihood: ClassVar[Likelihood | None] = BERNOULLI
    thresholds: tuple[float, ...] = ()
    separator: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(self.thresholds) or (0.5,) * len(self.names))

    @classmethod
    def read(cls, cells: Sequence[str], option: str) -> list[str | None]:
        written = [cell for cell in cells if cell and cell.lower() not in NO_TAG and cell[0] not in "[{"]
        used = [mark for mark in SEPARATORS if any(mark in cell for cell in written)]
        separator = option or (used or SEPARATORS)[0]
        return [_read_cell(place, cell, separator) for place, cell in enumerate(cells)]

    @classmethod
    def of_labels(cls, task: str, labels: Sequence[str], option: str) -> Self:
        states = [states_of(label) for label in labels]
        names = sorted({name for state in states for name in state})
        never = [name for name in names if not any(state.get(name) for state in states)]
        if never:
            raise SnowError(f"tag {never[0]!r} of task {task!r} occurs on no training picture: leave it out")
        if not names:
            raise SnowError(f"task {task!r} has no tags: no training picture has one")
        return cls(tuple(names), separator=option)

    def unknown(self, labels: Sequence[str]) -> list[str]:
        return sorted({name for label in labels for name in states_of(label)} - set(self.names))

    def absent(self, labels: Sequence[str]) -> list[str]:
        present = {name for label in labels for name, on in states_of(label).items() if on}
        return [name for name in self.names if name not in present]

    def strata(self, labels: Sequence[str]) -> list[int]:
        """Put each label to its rarest tag, so that rare tags are divided alike; those without a tag are the last."""
        on = [[name for name, is_on in states_of(label).items() if is_on] for label in labels]
        counts = {name: sum(name in tags for tags in on) for name in self.names}
        place = {name: number for number, name in enumerate(self.names)}
        rarest = [min(tags, key=lambda name: (counts.get(name, 0), name), default=None) for tags in on]
        return [len(self.names) if name is None else place.get(name, len(self.names)) for name in rarest]

    def targets(self, labels: Sequence[str]) -> Tensor | None:
        """1 for a tag of the picture, 0 for none, NaN where the label does not say: (M, C)."""
        rows = []
        for label in labels:
            states, absent = states_of(label), 0.0 if label.startswith("[") else float("nan")
            rows.append([float(states.get(name, absent)) for name in self.names])
        return torch.tensor(rows, dtype=torch.float32).view(len(labels), len(self.names))

    def describe(self) -> str:
        return f"multi, {len(self.names)} tags"

    @property
    def outputs(self) -> int:
        return len(self.names)

    def loss(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        """Sum over pictures of the mean binary cross-entropy over the tags that are known."""
        known = labels.isfinite()
        smoothed = labels.nan_to_num() * (1 - options.smoothing) + options.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), smoothed, reduction="none", pos_weight=options.weights
        )
        return ((losses * known).sum(1) / known.sum(1).clamp(min=1)).sum()

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over pictures of the share of known tags that are right at a threshold of 0.5."""
        known = labels.isfinite()
        right = ((logits > 0) == (labels > 0.5)) & known
        return (right.sum(1) / known.sum(1).clamp(min=1)).sum()

    def weights(self, labels: Tensor, choice: str) -> Tensor | None:
        """With `balanced` the pictures with a tag weigh as much as those without, by at most `LARGEST_WEIGHT`."""
        if choice == "balanced":
            on, off = (labels == 1).sum(0), (labels == 0).sum(0)
            return (off / on.clamp(min=1)).clamp(1 / LARGEST_WEIGHT, LARGEST_WEIGHT).float()
        named = named_weights(choice, self.names)
        return torch.tensor([named.get(name, 1.0) for name in self.names]) if named else None

    def evidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Keep targets and probabilities of all tags: (b, 2 * C)."""
        labelled = labels.isfinite().any(1)
        return torch.cat([labels[labelled].float(), logits[labelled].float().sigmoid()], 1)

    def metrics(self, evidence: Tensor) -> TagMetrics:
        actual, scores = evidence.cpu().double().chunk(2, 1)
        return TagMetrics(len(evidence), self.names, self.thresholds, actual, scores)

    def tuned(self, evidence: Tensor, target: ThresholdTarget = ThresholdTarget()) -> Self:  # noqa: B008  immutable
        """Pick the threshold of each tag, by default the one with the best F1."""
        actual, scores = evidence.cpu().double().chunk(2, 1)
        thresholds = []
        for truth, score in zip(actual.unbind(1), scores.unbind(1), strict=True):
            known = truth.isfinite()
            thresholds.append(round(threshold_for(target, score[known], truth[known] == 1), 6))
        return replace(self, thresholds=tuple(thresholds))

    def predictions(self, task: str, logits: Tensor) -> list[Prediction]:
        rows = logits.float().sigmoid().cpu()
        return [TagPrediction(task, self.names, self.thresholds, row) for row in rows]

    def decoded(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def to_dict(self) -> dict[str, Any]:
        return {"thresholds": list(self.thresholds), **({"separator": self.separator} if self.separator else {})}

    @classmethod
    def from_dict(cls, names: Sequence[str], values: dict[str, Any]) -> Self:
        thresholds = values.get("thresholds")
        if not isinstance(thresholds, list) or len(thresholds) != len(names):
            raise SnowError(f"there are {len(names)} tags, and not as many thresholds")
        return cls(tuple(names), tuple(float(value) for value in thresholds), str(values.get("separator", "")))

    @property
    def spec(self) -> KindSpec:
        return KindSpec(self.name, self.separator)


def states_of(label: str) -> dict[str, bool]:
    """Read a label: tag -> whether the picture has it. Tags that a list does not name are left out, and off."""
    content = json.loads(label)
    if isinstance(content, dict):
        return {name: bool(on) for name, on in content.items()}
    return dict.fromkeys(content, True)


def label_of(states: dict[str, bool | None]) -> str | None:
    """Write a label from tags that are on, off or unknown (None); None if nothing is known."""
    known = {name: int(on) for name, on in sorted(states.items()) if on is not None}
    return json.dumps(known, ensure_ascii=False) if known else None


def _read_cell(place: int, cell: str, separator: str) -> str | None:
    if not cell:
        return None
    if cell.lower() in NO_TAG:
        return "[]"
    if cell[0] == "[":
        try:
            content = json.loads(cell)
        except ValueError as error:
            raise BadCellError(place, f"{cell!r} is not a JSON list of tags ({error})") from None
        tags = [str(tag) for tag in content]
    else:
        tags = cell.split(separator)
    return json.dumps(sorted({tag.strip() for tag in tags if tag.strip()}), ensure_ascii=False)


@dataclass(frozen=True)
class TagMetrics(Metrics):
    """How well tags are recognised.

    Attributes:
        names: tags.
        thresholds: from which a tag is on.
        actual: (n, C), 1, 0, or NaN where it is not known.
        scores: (n, C), probabilities.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    actual: Tensor = field(compare=False, repr=False)
    scores: Tensor = field(compare=False, repr=False)

    @property
    def score(self) -> float:
        return self.to_dict()["map"] or 0.0

    @property
    def score_key(self) -> str:
        return "map"

    @cached_property
    def _counts(self) -> Tensor:
        """Count right ones, predicted ones and actual ones of each tag: (3, C)."""
        known, truth = self.actual.isfinite(), self.actual == 1
        on = (self.scores >= torch.tensor(self.thresholds, dtype=torch.float64)) & known
        return torch.stack([(on & truth).sum(0), on.sum(0), truth.sum(0)]).double()

    @cached_property
    def precisions(self) -> list[float | None]:
        """Average precision of each tag; None for one that no picture has."""
        values = []
        for truth, score in zip(self.actual.unbind(1), self.scores.unbind(1), strict=True):
            known = truth.isfinite()
            values.append(average_precision(score[known], truth[known] == 1))
        return values

    def to_dict(self) -> dict[str, Any]:
        right, predicted, actual = self._counts
        measured = [value for value in self.precisions if value is not None]
        occurring = predicted + actual > 0
        return {
            "map": sum(measured) / len(measured) if measured else None,
            "micro_f1": float(f1(right.sum(), predicted.sum(), actual.sum())),
            "macro_f1": float(f1(right, predicted, actual)[occurring].mean()) if occurring.any() else 0.0,
            "images": self.images,
        }

    def rows(self) -> list[AnswerRow]:
        """The mistake is the number of wrong tags, and the distance from their thresholds."""
        limits = torch.tensor(self.thresholds, dtype=torch.float64)
        rows = []
        for truth, score in zip(self.actual, self.scores, strict=True):
            on = score >= limits
            wrong = (on != (truth == 1)) & truth.isfinite()
            label, answer = (
                "|".join(name for name, is_on in zip(self.names, row.tolist(), strict=True) if is_on)
                for row in (truth == 1, on)
            )
            distance = (score - limits).abs()
            values = dict(zip(self.names, score.tolist(), strict=True))
            mistake = float(wrong.sum() + distance[wrong].sum())
            rows.append(AnswerRow(label, answer, mistake, float(distance.min()), values))
        return rows

    def details(self) -> dict[str, Any]:
        rows = {}
        right, predicted, actual = self._counts.long().tolist()
        for number, name in enumerate(self.names):
            rows[name] = {
                "images": actual[number],
                "precision": right[number] / predicted[number] if predicted[number] else None,
                "recall": right[number] / actual[number] if actual[number] else None,
                "average_precision": self.precisions[number],
                "threshold": self.thresholds[number],
            }
        return {"per_class": rows}


@final
@dataclass(frozen=True, eq=False)
class TagPrediction(Prediction):
    """Probability of each tag, and which are on.

    Attributes:
        names: tags in the order of the outputs.
        thresholds: of each tag.
        probabilities: (C,), of each tag.
    """

    kind: ClassVar[str] = TagKind.name
    names: Sequence[str]
    thresholds: Sequence[float]
    probabilities: Tensor

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags that are on."""
        return tuple(entry["tag"] for entry in self._ranked() if entry["on"])

    def _ranked(self) -> list[dict[str, Any]]:
        """List all tags, those that are on first, then the most likely."""
        rows = [
            {"tag": name, "probability": value, "on": value >= threshold}
            for name, value, threshold in zip(self.names, self.probabilities.tolist(), self.thresholds, strict=True)
        ]
        return sorted(rows, key=lambda row: (not row["on"], -row["probability"]))

    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        rows = self._ranked()
        on = sum(row["on"] for row in rows)
        shown = rows if k is None else rows[: max(on, 1)] if on <= k else rows[:k]
        return [(f"{row['tag']}{'' if row['on'] else ' (off)'}", row["probability"]) for row in shown]

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """Tags that are on are never cut off."""
        rows = self._ranked()
        keep = len(rows) if top_k is None else max(top_k, sum(row["on"] for row in rows))
        return {**self._head(), "tags": rows[:keep]}
