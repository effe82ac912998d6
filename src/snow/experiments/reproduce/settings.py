"""The settings that all experiments share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from snow.data import Dataset, open_dataset
from snow.data.pictures import Progress
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES
from snow.experiments.reproduce.class_parts import take_part
from snow.experiments.reproduce.sets import OWN, OpenedSet, SetLocation
from snow.methods.variant import Variant
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.listeners import Listener

RESNET = "resnet50"
"""The paper's source; parameters and speeds are measured on it unless --source names another."""


@dataclass(frozen=True)
class ReproductionSettings:
    """What to run an experiment with.

    Attributes:
        folder: for results and intermediate files.
        open_source: opens the source with its weights, when an experiment first needs them.
        architecture: of the source on which parameters and speeds are measured; its weights do not matter.
        image_size: side of the images for those measurements, in pixels.
        recipe: trains all methods.
        runtime: of each training run.
        locations: the available datasets.
        methods: empty for the experiment's own.
        rates: learning rates to choose from, as in `Comparison`.
        seeds: each method is trained once per seed.
        held_out: fraction of the training images on which the rate is chosen.
        speeds: measure speeds and memory, too.
        listeners: makes the listeners of a training run from its name.
        progress: called while the images are checked.
        log: called with one line for whatever the user should know.
    """

    folder: Path
    open_source: Callable[[], Source]
    architecture: str = RESNET
    image_size: int = 224
    recipe: Recipe = Recipe()  # noqa: RUF009  frozen
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    locations: tuple[SetLocation, ...] = ()
    methods: tuple[Variant, ...] = ()
    rates: tuple[float, ...] = RATES
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    speeds: bool = True
    listeners: Callable[[str], Sequence[Listener]] = lambda _: ()
    progress: Progress | None = None
    log: Callable[[str], None] = lambda _: None

    @cached_property
    def source(self) -> Source:
        return self.open_source()

    @cached_property
    def sets(self) -> tuple[OpenedSet, ...]:
        """Open all datasets.

        Raises:
            SnowError: as `snow.data.open_dataset`.
        """
        whole: dict[Path, Dataset] = {}
        opened = []
        for location in self.locations:
            if location.path not in whole:
                whole[location.path] = self._open(location)
            dataset = whole[location.path]
            opened.append(OpenedSet(location, _as_task(dataset, location)))
        return tuple(opened)

    def set_for(self, column: str) -> OpenedSet:
        """Choose the paper's dataset of this name, else one made from it, else the first.

        Raises:
            SnowError: there is no dataset.
        """
        if not self.sets:
            raise SnowError("this needs a dataset: name its folder with --data")
        return min(self.sets, key=lambda opened: (opened.location.column != column, OWN in opened.location.key))

    def _open(self, location: SetLocation) -> Dataset:
        dataset = open_dataset(location.path, task=location.key, seed=self.recipe.seed, progress=self.progress)
        for warning in dataset.warnings:
            self.log(f"warning: {warning}")
        return dataset


def _as_task(dataset: Dataset, location: SetLocation) -> Dataset:
    """Name the dataset's task by the location's key, and take the part of its classes."""
    if location.part is not None:
        return take_part(dataset, location.key, location.part)
    return replace(dataset, tasks=tuple(replace(task, name=location.key) for task in dataset.tasks))
