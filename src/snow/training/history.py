"""What a run reports: to its listeners while it lasts, and to its caller at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from snow.kinds import LabelKind, Metrics
from snow.methods import Method
from snow.subscribe import SelectionHistory


@dataclass(frozen=True)
class EpochRecord:
    """One learner in one epoch.

    Attributes:
        learner: its name.
        epoch: counted from 1.
        loss: mean training loss, label smoothing included.
        accuracy: fraction of the (augmented) training pictures that it answered correctly while it learned
            (`LabelKind.hits`).
        validation: score on the held-out pictures after the epoch (`Metrics.score`): of a class the fraction that it
            classified correctly; None without such.
        figure: key of the figure that `validation` is (`Metrics.score_key`).
        lr: learning rate of the epoch's last step.
        images_per_second: training pictures a second, over all processes, without evaluation.
        seconds: spent on training in this epoch.
    """

    learner: str
    epoch: int
    loss: float
    accuracy: float
    validation: float | None
    lr: float
    images_per_second: float
    seconds: float
    figure: str = ""


@dataclass(frozen=True)
class RunInfo:
    """What a run is about to do.

    Attributes:
        learners: their names.
        epochs: the largest number of epochs.
        batches: steps in an epoch.
        recipe: the fields of the recipe.
        first_step: steps done already, when a run is resumed.
        history: records so far, when a run is resumed.
        notes: other lines to show before it starts.
        kinds: name of the kind of labels of each learner.
    """

    learners: tuple[str, ...]
    epochs: int
    batches: int
    recipe: dict[str, object]
    first_step: int
    history: tuple[EpochRecord, ...]
    notes: tuple[str, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """A run after a step.

    Attributes:
        step: of the whole run, from 1.
        epoch: from 1.
        loss: mean over this epoch so far, by learner.
        accuracy: as `loss`.
        images_per_second: over this epoch so far.
    """

    step: int
    epoch: int
    loss: dict[str, float]
    accuracy: dict[str, float]
    images_per_second: float


class HeldOut(NamedTuple):
    """Answers for training pictures that were not learned.

    Attributes:
        index: (h,), among all training pictures.
        logits: (h, C).
        label: (h,).
    """

    index: Tensor
    logits: Tensor
    label: Tensor


@dataclass(frozen=True)
class Fitted:
    """The result of a run.

    Attributes:
        learners: the methods that were passed in, trained, in eval mode.
        history: a record per learner and epoch.
        metrics: of each learner on the test pictures with the label of its task; empty if there are none.
        selection_history: of each learner that selects channels, its selection over the time of training.
        is_first: whether this process should write files; False in all but one of those that torchrun starts.
        kinds: of each learner the kind of its labels, with what held-out pictures decided.
        evidence: of each learner that starts by evidence, what was chosen and why, as JSON values.
        calibration_seconds: spent before the first step.
        held_out: of each learner that some training pictures judged, its answers for these.
    """

    learners: dict[str, Method]
    history: tuple[EpochRecord, ...]
    metrics: dict[str, Metrics]
    selection_history: dict[str, SelectionHistory] = field(default_factory=dict)
    is_first: bool = True
    kinds: dict[str, LabelKind] = field(default_factory=dict)
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration_seconds: float = 0.0
    held_out: dict[str, HeldOut] = field(default_factory=dict)


@dataclass
class RunningMeans:
    """Sums of one learner over the labelled pictures of an epoch so far."""

    loss: float = 0.0
    correct: float = 0.0
    labels: int = 0

    def add(self, loss: float, correct: float, labels: int) -> None:
        self.loss += loss
        self.correct += correct
        self.labels += labels

    @property
    def mean_loss(self) -> float:
        return self.loss / max(1, self.labels)

    @property
    def accuracy(self) -> float:
        return self.correct / max(1, self.labels)
