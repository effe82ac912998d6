"""The base class of kinds of labels, and the figures that they are measured by.

Shape letters in this room:
    B     pictures in a batch
    n     pictures
    M     different labels of a data set
    W     outputs of a method
    C     classes, tags or grades
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from snow.delta import Likelihood
from snow.kinds.choices import KindSpec, ThresholdTarget
from snow.kinds.prediction import Prediction, with_unit


class Figure(NamedTuple):
    """One measured number.

    Attributes:
        key: name in JSON.
        title: head of its column in tables.
        is_fraction: shown in percent.
        rises: more is better.
        has_unit: it is in the unit of the labels.
    """

    key: str
    title: str
    is_fraction: bool = True
    rises: bool = True
    has_unit: bool = False

    def text(self, value: object, unit: str = "") -> str:
        """Write a value for a table: `81.2 %`, `1.84`, or `1.84 mm` with the unit of the labels; "" for None."""
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
            return ""
        return f"{100 * value:.1f} %" if self.is_fraction else with_unit(value, unit if self.has_unit else "")


class LossOptions(NamedTuple):
    """Options of the loss.

    Attributes:
        smoothing: probability that the target spreads over all classes.
        weights: (W,), weight of each class, or of the pictures with each tag; None: all alike.
        squared: squared errors of numbers instead of Huber's.
    """

    smoothing: float = 0.0
    weights: Tensor | None = None
    squared: bool = False


class AnswerRow(NamedTuple):
    """One picture as a report lists it.

    Attributes:
        label, answer: as text.
        mistake: 0 for a right answer; otherwise the larger, the worse.
        confidence: of the answer, 0..1; None where the kind has none.
        values: probability of each tag; empty for other kinds.
    """

    label: str
    answer: str
    mistake: float
    confidence: float | None = None
    values: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Metrics(ABC):
    """How well a method does on some pictures. A kind of label has a subclass, with a field for each figure.

    Attributes:
        images: labelled pictures that were measured.
    """

    images: int

    @property
    @abstractmethod
    def score(self) -> float:
        """The figure by which settings are compared; higher is better."""

    @property
    @abstractmethod
    def score_key(self) -> str:
        """Key of the figure that the score is; the score is negative where less is better."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the figures by their keys, and `images`, as JSON values."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return what belongs to single classes or tags, as JSON values: `{"per_class": …}` or `{}`."""

    def curves(self) -> dict[str, Any]:
        """Return what a report has beside that, as JSON values."""
        return {}

    @abstractmethod
    def rows(self) -> list[AnswerRow]:
        """List label and answer of each picture, in their order."""


@dataclass(frozen=True)
class LabelKind(ABC):
    """A kind of label: how labels are read, learned, measured and answered. A new one is one file and one line in
    `snow.kinds.KINDS`.

    An instance knows the labels of one task. A label is text: the name of a class, a number, or tags as JSON. A method
    learns targets, which `targets` makes of labels, and answers with W outputs.

    Attributes:
        name: its key in `KINDS`, and the `kind` of its predictions in JSON.
        figures: what it is measured by; the first is the headline.
        output: what `decoded` gives, in words.
        hits_title: what the share of `hits` is called while a method learns.
        tunable: held-out pictures decide something, see `tuned`.
        likelihood: of `standardised` targets around the outputs, by which a start in closed form is found; None: the
            kind has none, and learns from zero.
        names: classes, tags or grades in the order of the answer; () for a number.
    """

    name: ClassVar[str]
    figures: ClassVar[tuple[Figure, ...]]
    output: ClassVar[str]
    hits_title: ClassVar[str] = "accuracy"
    tunable: ClassVar[bool] = False
    likelihood: ClassVar[Likelihood | None] = None
    names: tuple[str, ...]

    # ---- labels as text

    @classmethod
    @abstractmethod
    def read(cls, cells: Sequence[str], option: str) -> list[str | None]:
        """Turn cells of a column into labels; None for a cell without a label.

        Args:
            option: what the user gave behind the name of the kind.

        Raises:
            BadCellError: a cell is no label of this kind.
        """

    @classmethod
    @abstractmethod
    def of_labels(cls, task: str, labels: Sequence[str], option: str) -> Self:
        """Learn the names, or the range, from the labels of the training pictures.

        Raises:
            SnowError: nothing can be learned from these.
        """

    @abstractmethod
    def unknown(self, labels: Sequence[str]) -> list[str]:
        """List the names in some labels that this task does not have, sorted."""

    @abstractmethod
    def absent(self, labels: Sequence[str]) -> list[str]:
        """List the names that no label has, in order."""

    @abstractmethod
    def strata(self, labels: Sequence[str]) -> list[int]:
        """Number the strata of labels: each is divided alike between training and test pictures."""

    @abstractmethod
    def targets(self, labels: Sequence[str]) -> Tensor | None:
        """Turn M labels into targets: (M, W) float, NaN where nothing is known; None if a label's number is learned."""

    def standardised(self, targets: Tensor) -> Tensor:
        """Turn targets into the units of the outputs: (n, W) -> (n, W), NaN where nothing is known."""
        return targets

    @abstractmethod
    def describe(self) -> str:
        """Describe the labels in a few words."""

    # ---- learning and measuring

    @property
    @abstractmethod
    def outputs(self) -> int:
        """W, outputs of a method."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        """Compute the loss: (B, W), (B,) or (B, W) -> a scalar, the sum over the labelled pictures.

        Args:
            labels: numbers of labels, -1 for none, or targets, NaN where nothing is known.
        """

    @abstractmethod
    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count the pictures that are answered right, in parts where the answer has parts: a scalar."""

    def weights(self, labels: Tensor, choice: str) -> Tensor | None:
        """Compute the weights of the loss from the labels of the training pictures: (W,); None: there are none.

        Args:
            choice: `balanced`, or `NAME=WEIGHT,…`.

        Raises:
            SnowError: a name that this task does not have, or a weight that is no positive number.
        """
        return None

    @abstractmethod
    def evidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Keep of a batch what `metrics` needs: (B, W), (B,) or (B, W) -> (b, k) of the labelled pictures."""

    @abstractmethod
    def metrics(self, evidence: Tensor) -> Metrics:
        """Measure: (n, k) -> figures."""

    def tuned(self, evidence: Tensor, target: ThresholdTarget = ThresholdTarget()) -> Self:  # noqa: B008  immutable
        """Return this kind with what held-out pictures decide, such as thresholds: (n, k). By default nothing."""
        return self

    def figure_texts(self, values: Mapping[str, object]) -> list[str]:
        """Write the figures of a task for a table, in their order; "" for one that was not measured."""
        return [figure.text(values.get(figure.key)) for figure in self.figures]

    # ---- answers

    @abstractmethod
    def predictions(self, task: str, logits: Tensor) -> list[Prediction]:
        """Decode the outputs of a method: (B, W) -> B predictions."""

    @abstractmethod
    def decoded(self, logits: Tensor) -> Tensor:
        """Turn outputs into what an exported file gives: (B, W) -> logits of classes, probabilities or numbers."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn outputs into probabilities: (B, W) -> (B, C).

        Raises:
            SnowError: the labels are numbers.
        """

    @property
    def spec(self) -> KindSpec:
        """How other data of this task is read."""
        return KindSpec(self.name)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return what a saved task keeps beside the names, as JSON values."""

    @classmethod
    @abstractmethod
    def from_dict(cls, names: Sequence[str], values: dict[str, Any]) -> Self:
        """Read the names and what `to_dict` gave."""

    @classmethod
    def saved_outputs(cls, names: Sequence[str]) -> int:
        """Return W of a saved task from its names."""
        return len(names)


class BadCellError(Exception):
    """A cell that is no label of its kind: its place in the column, what is wrong with it, and others with the same."""

    def __init__(self, place: int, reason: str, others: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.place, self.reason, self.others = place, reason, tuple(others)
