"""Train methods side by side on one pass of their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from snow.data import Dataset
from snow.methods import Method
from snow.process.randomness import fork_rng
from snow.source import Source
from snow.training.history import Fitted
from snow.training.job import RunPaths, TrainingJob
from snow.training.launch import is_launched, open_fabric, spawn
from snow.training.listeners import Listener
from snow.training.recipe import Recipe
from snow.training.runtime import Runtime
from snow.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(
    source: Source,
    learners: Mapping[str, Method],
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    runtime: Runtime | None = None,
    fabric: Fabric | None = None,
    listeners: Sequence[Listener] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Fitted:
    """Train methods, each on the task with its name, or all on the only task of the data set.

    On a CPU the result is a function of the arguments, whether the run was interrupted and resumed or not. The random
    state of the caller is left as it was.

    Args:
        source: stays as it is; moved to the device, as are the methods.
        learners: name -> method, fresh from `build`.
        dataset: its training pictures are learned, its test pictures measured once at the end.
        recipe: by default `Recipe()`.
        runtime: by default `Runtime()`. With several devices the processes are started here, unless torchrun has
            started them. Listeners then live in the first one. A cache without a folder is in memory.
        fabric: one that is launched already and brings its own precision, accelerator and devices.
        listeners: called after every step and epoch.
        checkpoint: file that holds the state of the run from time to time and at the end of each epoch. It is left
            when the run ends: remove it when its result is safe.
        resume: continue from `checkpoint` if there is one.

    Raises:
        SnowError: data or recipe do not fit, a checkpoint cannot be written or is of another run.
        DivergedError: a loss is not finite.
        Interrupted: SIGINT or SIGTERM came; the step was finished and the checkpoint saved.
    """
    paths = RunPaths(None if checkpoint is None else Path(checkpoint), resume)
    job = TrainingJob(source, learners, dataset, recipe or Recipe(), runtime or Runtime(), paths)
    return run_job(job, listeners, fabric)


def run_job(job: TrainingJob, listeners: Sequence[Listener] = (), fabric: Fabric | None = None) -> Fitted:
    """Run a job in this process, or in as many new ones as its runtime has devices; see `fit`."""
    if fabric is None and job.runtime.devices > 1 and not is_launched():
        layouts, weights, fitted = spawn(_run_in_child, (job, tuple(listeners)), job.runtime.devices)
        for name, method in job.learners.items():
            if (layout := layouts[name]) is not None:
                method.set_layout(layout)
            if job.freezes_selection:
                method.freeze_selection()
            method.load_state_dict(weights[name])
            method.eval()
        return Fitted(dict(job.learners), *fitted)
    fabric = fabric or open_fabric(job.recipe.precision, job.runtime.accelerator, job.runtime.devices)
    with fork_rng():
        return Trainer(job, fabric, listeners).train()


def _run_in_child(
    job: TrainingJob, listeners: Sequence[Listener]
) -> tuple[dict[str, dict[str, Any] | None], dict[str, dict[str, Tensor]], tuple]:
    """Return layouts and weights by learner, and the other fields of `Fitted`."""
    fabric = open_fabric(job.recipe.precision, job.runtime.accelerator, job.runtime.devices)
    fitted = Trainer(job, fabric, listeners).train()
    layouts = {name: method.layout() for name, method in fitted.learners.items()}
    weights = {name: method.cpu().state_dict() for name, method in fitted.learners.items()}
    records = (fitted.history, fitted.metrics, fitted.selection_history, fitted.is_first, fitted.kinds)
    return layouts, weights, (*records, fitted.evidence, fitted.calibration_seconds)
