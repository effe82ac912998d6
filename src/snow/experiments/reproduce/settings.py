"""What is reproduced from, how, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from snow.data import open_dataset
from snow.data.pictures import Progress
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES
from snow.experiments.reproduce.sets import OWN, Found, Opened
from snow.methods.variant import Variant
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.listeners import Listener

RESNET = "resnet50"
"""The paper's source, which counts and speeds are taken of unless another one is named."""


@dataclass(frozen=True)
class ReproductionSettings:
    """What every experiment is given.

    Attributes:
        folder: for results, and for what they are made of.
        open_source: opens the source with its weights.
        bare: architecture of which parameters and speeds are taken, where weights do not matter.
        image_size: side of the pictures there.
        recipe: how all methods are trained.
        runtime: where.
        found: the sets that are there.
        methods: by default those of the experiment.
        rates: learning rates to choose from, as in `Comparison`.
        seeds: each method is trained with each of them.
        held_out: part of the training pictures on which the rate is chosen.
        speeds: measure speeds and memory too.
        listeners: for a stage with this name.
        progress: hears of pictures that are checked.
        note: hears of what is worth a line.
    """

    folder: Path
    open_source: Callable[[], Source]
    bare: str = RESNET
    image_size: int = 224
    recipe: Recipe = Recipe()  # noqa: RUF009  frozen
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    found: tuple[Found, ...] = ()
    methods: tuple[Variant, ...] = ()
    rates: tuple[float, ...] = RATES
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    speeds: bool = True
    listeners: Callable[[str], Sequence[Listener]] = lambda _: ()
    progress: Progress | None = None
    note: Callable[[str], None] = lambda _: None

    @cached_property
    def source(self) -> Source:
        return self.open_source()

    @cached_property
    def sets(self) -> tuple[Opened, ...]:
        """All that were found, opened.

        Raises:
            SnowError: one is refused by the rules of `snow.data`.
        """
        return tuple(self._open(one) for one in self.found)

    def one(self, column: str) -> Opened:
        """The set of this name in the paper; else what is made of it, else the first.

        Raises:
            SnowError: there is none at all.
        """
        if not self.sets:
            raise SnowError("there are no pictures to reproduce this with")
        return min(self.sets, key=lambda one: (one.found.column != column, one.found.key.endswith(OWN)))

    def _open(self, found: Found) -> Opened:
        dataset = open_dataset(found.path, task=found.key, seed=self.recipe.seed, progress=self.progress)
        for warning in dataset.warnings:
            self.note(f"warning: {warning}")
        return Opened(found, dataset)
