"""A run as one value that can be handed to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snow.data import Dataset
from snow.errors import SnowError
from snow.methods import Method
from snow.source import Source
from snow.training.recipe import Recipe
from snow.training.runtime import Runtime


@dataclass(frozen=True)
class RunPaths:
    """The file that keeps the state of a run.

    Attributes:
        checkpoint: where the state is saved at the end of each epoch and from time to time; None saves nothing.
        resume: continue from the checkpoint if there is one.

    Raises:
        SnowError: the run is to be resumed, and there is no checkpoint path.
    """

    checkpoint: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.checkpoint is None:
            raise SnowError("resuming needs a checkpoint: give its path")


@dataclass(frozen=True)
class TrainingJob:
    """Everything about a run: what learns, from which pictures, how, and where.

    Attributes:
        source: stays as it is; moved to the device, as are the learners.
        learners: name -> method, fresh from `Method.build`. Each learns the task with its name, or all learn the only
            task of the data set.
        dataset: its training pictures are learned, its test pictures measured once at the end.
        recipe: resolved when the job is made: it says whether the choice of channels is frozen, cache or not.
        runtime: devices, processes and cache.
        paths: where the state of the run is kept.
        warm_start: the learners have learned already: they are not calibrated, and keep their choice of channels.

    Raises:
        SnowError: there is no learner, or recipe and runtime do not fit together.
    """

    source: Source
    learners: Mapping[str, Method]
    dataset: Dataset
    recipe: Recipe
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    paths: RunPaths = RunPaths()  # noqa: RUF009  frozen
    warm_start: bool = False

    def __post_init__(self) -> None:
        if not self.learners:
            raise SnowError("there is nothing to train: name at least one learner")
        object.__setattr__(self, "learners", dict(self.learners))
        object.__setattr__(self, "recipe", self.recipe.resolved(self.cached))

    @property
    def uses_source(self) -> bool:
        """Whether any learner reads features of the source."""
        return any(method.uses_source for method in self.learners.values())

    @property
    def freezes_selection(self) -> bool:
        """Whether the choice of channels is fixed after calibration. With a warm start it is fixed already."""
        return bool(self.recipe.freeze_selection) and not self.warm_start

    @property
    def guards_starts(self) -> bool:
        """Whether a start by evidence is kept unless training is better. Weights of classes change what is better."""
        counts_alike = self.recipe.class_weights is None and self.recipe.sampling == "uniform"
        return not self.warm_start and counts_alike

    @property
    def cached(self) -> bool:
        """Whether the run caches features: it is asked to, and a learner reads them."""
        return self.runtime.cache is not None and self.uses_source
