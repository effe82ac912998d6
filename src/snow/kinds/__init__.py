"""Kinds of labels: a class, any number of tags, a number, a grade. A new one is one file and one line in `KINDS`.

A kind says how labels are read from cells, what a method learns and with which loss, how answers are measured, and what
they look like in JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from snow.errors import DamagedError, NotFoundError
from snow.kinds.choices import KindSpec, ThresholdTarget
from snow.kinds.classes import ClassKind, ClassMetrics, ClassPrediction
from snow.kinds.grades import GradeKind, GradePrediction
from snow.kinds.kind import AnswerRow, BadCellError, Figure, LabelKind, LossOptions, Metrics
from snow.kinds.number import NumberKind, NumberPrediction
from snow.kinds.prediction import Prediction
from snow.kinds.tags import TagKind, TagPrediction

KINDS: dict[str, type[LabelKind]] = {kind.name: kind for kind in (ClassKind, TagKind, NumberKind, GradeKind)}

FIGURES: dict[str, Figure] = {figure.key: figure for kind in KINDS.values() for figure in kind.figures}
"""Figures of all kinds by their keys."""


def kind_named(name: str) -> type[LabelKind]:
    """Look a kind up. Raises NotFoundError: there is no such kind."""
    if name not in KINDS:
        raise NotFoundError(f"no kind of label {name!r}: there are {', '.join(KINDS)}")
    return KINDS[name]


def saved_labels(kind: LabelKind) -> dict[str, Any]:
    """Return what a saved task says about its labels beside their names: `{"kind", …}`; nothing for plain classes."""
    return {} if isinstance(kind, ClassKind) else {"kind": kind.name, **kind.to_dict()}


def kind_of(names: Sequence[str], labels: Mapping[str, Any]) -> LabelKind:
    """Read the names of a saved task and what `saved_labels` gave; without a kind they are classes.

    Raises:
        SnowError: an unknown kind, or damaged values.
    """
    try:
        return kind_named(str(labels.get("kind", ClassKind.name))).from_dict(names, dict(labels))
    except (TypeError, ValueError) as error:
        raise DamagedError(f"the labels of the task are damaged: {error}") from None


def score_text(key: str, score: float) -> str:
    """Write a score (`Metrics.score`) with the name of its figure: `top-1 81.2%`, `R² -0.17`, `MAE in grades 0.4`."""
    figure = FIGURES[key]
    value = score if figure.rises else -score
    return f"{figure.title} {value:.1%}" if figure.is_fraction else f"{figure.title} {value:.3g}"


__all__ = [
    "FIGURES",
    "KINDS",
    "AnswerRow",
    "BadCellError",
    "ClassKind",
    "ClassMetrics",
    "ClassPrediction",
    "Figure",
    "GradeKind",
    "GradePrediction",
    "KindSpec",
    "LabelKind",
    "LossOptions",
    "Metrics",
    "NumberKind",
    "NumberPrediction",
    "Prediction",
    "TagKind",
    "TagPrediction",
    "ThresholdTarget",
    "kind_named",
    "kind_of",
    "saved_labels",
    "score_text",
]
