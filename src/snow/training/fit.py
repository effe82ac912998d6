"""Training: any methods, side by side on one pass of their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from snow.data import Dataset
from snow.errors import SnowError
from snow.methods import Method
from snow.process.randomness import fork_rng
from snow.source import Source
from snow.subscribe import SelectionHistory
from snow.training.cache.cache import is_cached
from snow.training.evaluate import Metrics
from snow.training.history import EpochRecord
from snow.training.launch import is_launched, open_fabric, spawn
from snow.training.listeners import Listener
from snow.training.recipe import Recipe
from snow.training.trainer import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Fitted:
    """What a run leaves.

    Attributes:
        learners: the methods that were passed in, trained, in eval mode.
        history: a record per learner and epoch.
        metrics: of each learner on the test pictures with the label of its task; empty if there are none.
        choices: of each learner that makes a choice, what it was over time.
        is_first: whether this process is the one that should write files; False in all but one that torchrun starts.
    """

    learners: dict[str, Method]
    history: tuple[EpochRecord, ...]
    metrics: dict[str, Metrics]
    selection_history: dict[str, SelectionHistory] = field(default_factory=dict)
    is_first: bool = True


def fit(
    source: Source,
    learners: Mapping[str, Method],
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    fabric: Fabric | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    listeners: Sequence[Listener] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
) -> Fitted:
    """Trains methods, each on the task with its name, or all on the one task that the data set has.

    On a CPU the result is a function of the arguments, whether the run was interrupted and resumed or not. The random
    numbers of the caller are left as they were.

    Args:
        source: stays as it is; moved to the device, as are the methods.
        learners: name -> method, fresh from `build`.
        dataset: its training pictures are learned, its test pictures measured once at the end.
        recipe: by default `Recipe()`.
        fabric: one that is launched already and brings its own precision, accelerator and devices.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: processes, each with a device and a copy of everything, that share every batch. They are started
            here, unless torchrun has started them. Listeners then live in the first one.
        listeners: told of every step and epoch.
        checkpoint: file that holds the state of the run from time to time and at the end of each epoch. It is left
            when the run ends: remove it when its result is safe.
        resume: go on from `checkpoint` if there is one.
        cache: folder for what `recipe.cache` keeps, which is left when the run ends; None: in memory.

    Raises:
        SnowError: data or recipe that do not fit, a checkpoint that cannot be written or is of another run, or a loss
            that is not finite.
        Interrupted: SIGINT or SIGTERM came; the step was finished and the checkpoint saved.
    """
    recipe = recipe or Recipe()
    path = None if checkpoint is None else Path(checkpoint)
    kept = None if cache is None else Path(cache)
    if resume and path is None:
        raise SnowError("resuming needs to know the checkpoint")
    if fabric is None and devices > 1 and not is_launched():
        call = (source, dict(learners), dataset, recipe, accelerator, devices, tuple(listeners), path, resume, kept)
        states, *left = spawn(_fit_in_child, call, devices)
        for name, method in learners.items():
            if is_cached(recipe, learners.values()):
                method.freeze_selection()
            method.load_state_dict(states[name])
            method.eval()
        return Fitted(dict(learners), *left)
    fabric = fabric or open_fabric(recipe.precision, accelerator, devices)
    with fork_rng():
        run = Run(fabric, source, learners, dataset, recipe, listeners, path, resume, kept)
        metrics = run.fit()
    return Fitted(dict(learners), tuple(run.history), metrics, run.selection_history(), run.peers.is_first)


def _fit_in_child(
    source: Source,
    learners: Mapping[str, Method],
    dataset: Dataset,
    recipe: Recipe,
    accelerator: str,
    devices: int,
    listeners: Sequence[Listener],
    checkpoint: Path | None,
    resume: bool,
    cache: Path | None,
) -> tuple[dict[str, dict[str, Tensor]], tuple[EpochRecord, ...], dict[str, Metrics], dict[str, SelectionHistory]]:
    fabric = open_fabric(recipe.precision, accelerator, devices)
    run = Run(fabric, source, learners, dataset, recipe, listeners, checkpoint, resume, cache)
    metrics = run.fit()
    states = {name: method.cpu().state_dict() for name, method in learners.items()}
    return states, tuple(run.history), metrics, run.selection_history()
