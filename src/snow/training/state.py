"""What the acts of a run hand on: `Prepared` before anything learns, `Calibrated` and its `RunState` from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from snow.process.interrupt import Interrupt
from snow.source import Source
from snow.training.checkpoint import Checkpointer
from snow.training.feature_cache import FeatureCache
from snow.training.history import EpochRecord
from snow.training.job import TrainingJob
from snow.training.learner import Learner
from snow.training.process_group import ProcessGroup
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Prepared:
    """What is fixed before anything learns.

    Attributes:
        job: its source and learners are on the device.
        fabric: the device and precision of this process.
        group: the processes of the run.
        data: this process's share of the pictures.
        source: makes the features, in the precision of the recipe.
        interrupt: entered while the run loops.
        checkpointer: saves the state of the run.
        saved: the state to continue from; None: from the start.
    """

    job: TrainingJob
    fabric: Fabric
    group: ProcessGroup
    data: TrainingData
    source: Source
    interrupt: Interrupt
    checkpointer: Checkpointer
    saved: Mapping[str, Any] | None


@dataclass
class RunState:
    """The learners and the position of a run: all that a checkpoint holds.

    Attributes:
        learners: they learn side by side.
        epoch: the current one, from 0.
        batch: the next one of the epoch, from 0.
        seconds: spent on training in this epoch.
        history: a record per learner and finished epoch.
    """

    learners: list[Learner]
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def active(self) -> list[Learner]:
        """The learners that have not stopped early."""
        return [learner for learner in self.learners if not learner.stopped]

    def record_selection(self, steps: int) -> None:
        """Record which channels the active learners select after `steps` steps of the run."""
        for learner in self.active:
            learner.recorder.record(steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "history": [asdict(record) for record in self.history],
            "learners": {learner.name: learner.state_dict() for learner in self.learners},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for learner in self.learners:
            learner.load_state_dict(state["learners"][learner.name])
        self.epoch, self.batch, self.seconds = state["epoch"], state["batch"], state["seconds"]
        self.history = [EpochRecord(**record) for record in state["history"]]


@dataclass(frozen=True)
class Calibrated:
    """Learners that are ready for the next step.

    Attributes:
        state: at the start, or as a checkpoint left it.
        cache: of features; None: the source runs for each batch.
        seconds: that the calibration took.
    """

    state: RunState
    cache: FeatureCache | None
    seconds: float
