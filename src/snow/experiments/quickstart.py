"""Quickstart: train two tasks on one source from images that come with the installation, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from snow.data import open_dataset
from snow.data.samples import write_samples
from snow.hub import Artifact, Hub
from snow.inference import Failure, Prediction
from snow.methods import METHODS
from snow.process.randomness import fork_rng, seed_all
from snow.source import Source
from snow.training import Recipe, RunPaths, Runtime, TrainingJob
from snow.training.familiarity_pass import fit_familiarity
from snow.training.fit import run_job
from snow.training.hub_run import CHECKPOINT, run_folder
from snow.training.listeners import Listener
from snow.training.train import artifact_of

TASKS = ("digits", "textures")
IMAGE_SIZE = 64
RECIPE = Recipe(epochs=10, batch_size=32, lr=3e-3, augment="none")
RUNTIME = Runtime(workers=0)
PROBE = "linear probe"
"""Name of the baseline that is trained beside each task, on the same source pass: method `fo`."""


@dataclass(frozen=True)
class Quickstart:
    """The outcome of a quickstart.

    Attributes:
        hub: holds one task per name in `TASKS`; the metrics of each hold `linear_probe` beside `test`.
        trained: tasks trained by this call; the others were in the hub already.
        picture: a test image that no task was trained on.
        answers: the predictions of every task for `picture`, from one source pass.
        seconds: of the whole call.
    """

    hub: Hub
    trained: tuple[str, ...]
    picture: Path
    answers: dict[str, Prediction | Failure]
    seconds: float


def quickstart(
    folder: str | Path = "snow-quickstart",
    *,
    source: Source | None = None,
    recipe: Recipe = RECIPE,
    listeners: Sequence[Listener] = (),
    log: Callable[[str], None] = lambda line: None,
) -> Quickstart:
    """Write images to `folder/pictures`, and train the tasks that `folder/hub` lacks. An interrupted run continues.

    Args:
        source: by default the embedded one at `IMAGE_SIZE` pixels.
        listeners: called at every step and epoch.
        log: called with one line at the start of each task.

    Raises:
        SnowError: `folder` cannot be written, or holds the hub of another source.
    """
    started = time.monotonic()
    folder = Path(folder)
    pictures = {name: write_samples(name, folder / "pictures") for name in TASKS}
    hub = Hub.create(folder / "hub", source or Source.embedded(IMAGE_SIZE))
    missing = tuple(name for name in TASKS if name not in hub.names())
    for name in missing:
        _train(hub, name, pictures[name], recipe, listeners, log)
    picture = sorted((pictures["digits"] / "test" / "4").iterdir())[0]
    answers = hub.predict([picture], TASKS)[0]
    return Quickstart(hub, missing, picture, answers, time.monotonic() - started)


def _train(
    hub: Hub,
    name: str,
    pictures: Path,
    recipe: Recipe,
    listeners: Sequence[Listener],
    log: Callable[[str], None],
) -> Artifact:
    dataset = open_dataset(pictures, task=name)
    task = dataset.tasks[0]
    log(
        f"{name}: {len(task.classes)} classes, {len(dataset.train)} training and {len(dataset.test)} test images, "
        f"{recipe.epochs} epochs"
    )
    with fork_rng():
        seed_all(recipe.seed)
        learners = {
            name: METHODS["snow"].build(hub.source, len(task.classes)),
            PROBE: METHODS["fo"].build(hub.source, len(task.classes)),
        }
    checkpoint = run_folder(hub.path, [name]) / CHECKPOINT
    job = TrainingJob(hub.source, learners, dataset, recipe, RUNTIME, RunPaths(checkpoint, resume=True))
    fitted = run_job(job, listeners)
    artifact = artifact_of(task, fitted, job, {"path": str(pictures)}, fit_familiarity(job, fitted.held_out))
    artifact.metrics["linear_probe"] = fitted.metrics[PROBE].to_dict()
    hub.add(artifact)
    checkpoint.unlink(missing_ok=True)
    return artifact
