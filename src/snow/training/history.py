"""What a run tells: a record per learner and epoch, and the running sums behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snow.methods import Method
from snow.subscribe import SelectionHistory


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
class RunPlan:
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


MOMENTS = 200
"""At most so many in a run, unless it has more epochs."""


def moments(epochs: int, batches: int) -> frozenset[int]:
    """After how many steps of an epoch to look: evenly over the run, and at the end of every epoch."""
    parts = min(batches, max(1, MOMENTS // epochs))
    return frozenset(round(batches * part / parts) for part in range(1, parts + 1))


class Recorder:
    """Asks a method what it would take if it answered now. Nothing is drawn, nothing that learns is touched.

    So this is the choice without noise, by the weights that are being trained: what a run that ended then would keep,
    if it does not average its weights. A moment is a bit a channel, where the method is: a GPU is not waited for.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._channels = {tap: len(mask) for tap, mask in method.selected_mask().items()}
        self._steps: list[int] = []
        self._packed: list[Tensor] = []

    def record(self, step: int) -> None:
        """`step`: how many are done."""
        if self._channels:
            self._steps.append(step)
            self._packed.append(_pack(torch.cat(list(self._method.selected_mask().values()))))

    def history(self, batches: int) -> SelectionHistory | None:
        """All that was recorded; None of a method that makes no choice. `batches`: steps in an epoch."""
        if not self._steps:
            return None
        packed = torch.stack(self._packed).cpu().numpy()
        bits = np.unpackbits(packed, axis=1, count=sum(self._channels.values()), bitorder="little")
        masks = torch.from_numpy(bits).bool().split(list(self._channels.values()), dim=1)
        return SelectionHistory(torch.tensor(self._steps), batches, dict(zip(self._channels, masks, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self._steps), "packed": torch.stack(self._packed) if self._packed else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = list(state["steps"])
        self._packed = [] if state["packed"] is None else list(state["packed"].unbind())


def _pack(mask: Tensor) -> Tensor:
    """(n,) of bool to (n / 8,) of bytes, the first in the lowest bit."""
    bytes_ = torch.nn.functional.pad(mask.byte(), (0, -len(mask) % 8)).view(-1, 8)
    return (bytes_ << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)
