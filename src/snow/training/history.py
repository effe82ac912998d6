"""What a run tells: a record per learner and epoch, and the running sums behind it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One learner in one epoch.

    Attributes:
        learner: its name.
        epoch: counted from 1.
        loss: mean training loss, label smoothing included.
        accuracy: fraction of the (augmented) training pictures that it named right while it learned.
        validation: fraction of the held-out pictures that it named right after the epoch; None without such.
        lr: learning rate of the epoch's last step.
        images_per_second: training pictures a second, over all processes, evaluation not counted.
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


@dataclass(frozen=True)
class Plan:
    """What a run is about to do.

    Attributes:
        learners: their names.
        epochs: how many there will be at most.
        batches: steps in an epoch.
        recipe: the fields of the recipe.
        first_step: steps done already, when a run is resumed.
        history: records so far, when a run is resumed.
        notes: what else there is to know before it starts, a line each.
    """

    learners: tuple[str, ...]
    epochs: int
    batches: int
    recipe: dict[str, object]
    first_step: int
    history: tuple[EpochRecord, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepReport:
    """Where a run is after a step: `step` of the whole run and `epoch`, from 1; means over this epoch by learner."""

    step: int
    epoch: int
    loss: dict[str, float]
    accuracy: dict[str, float]
    images_per_second: float


@dataclass
class Totals:
    """Running sums of one learner over the labelled pictures of an epoch."""

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
