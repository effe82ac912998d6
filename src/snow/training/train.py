"""From a hub and a data set to tasks in the hub: what `snow train` calls, and most scripts."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from snow.data import Dataset, SplitRecord, Task
from snow.data.labels import require_text
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.folder import store_of
from snow.methods import METHODS, Method
from snow.process.randomness import fork_rng, seed_all
from snow.source import Source
from snow.store import check_name
from snow.training.checkpoint import data_digest
from snow.training.fit import Fitted, fit
from snow.training.listeners import Listener
from snow.training.recipe import Recipe

CHECKPOINT, CACHE = "checkpoint.pt", "cache"
"""In a run's folder, while it lasts."""


def train(
    hub: Hub,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    method: str = "snow",
    config: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
    resume: bool = False,
    replace: bool = False,
    devices: int = 1,
    cache: Path | None = None,
) -> list[Artifact]:
    """Trains every task of a data set on one pass of the hub's source, measures it on the test pictures, and keeps it.

    The state of the run is in `run_folder(hub, names)` while it lasts; killed at any moment, the hub holds whole tasks
    only, and `resume=True` goes on.

    Args:
        recipe: by default `Recipe()`.
        method: a name in `METHODS`.
        config: its options, as for `Method.build`.
        about: what the artefacts should say of their data, as JSON values: where it is, how it was split.
        listeners: told of every step and epoch.
        resume: go on from where a run with the same arguments was stopped, if there is such a run.
        replace: put the new tasks in the place of those that have their names.
        devices: processes, as in `fit`.
        cache: folder for what `recipe.cache` keeps, for other runs to use as well; by default one that goes with the
            run.

    Returns:
        The tasks, as they are in the hub.

    Raises:
        SnowError: a name that is taken or cannot be one, an unknown method or option, data that does not fit, too
            little memory or disk; the hub's tasks are as they were.
        Interrupted: as in `fit`.
    """
    recipe = recipe or Recipe()
    names = [task.name for task in dataset.tasks]
    require_free(hub.path, names, replace)
    kind = method_named(method)
    if recipe.cache is not None and not kind.uses_source:
        raise SnowError(f"method {method} learns from the pictures themselves: leave the cache out")
    with fork_rng():
        seed_all(recipe.seed)
        learners = {task.name: kind.build(hub.source, len(task.classes), config) for task in dataset.tasks}
    folder = run_folder(hub.path, names)
    checkpoint, own_cache = folder / CHECKPOINT, folder / CACHE
    if not (resume and checkpoint.exists()):
        shutil.rmtree(own_cache, ignore_errors=True)
    with rollback(folder, keep=checkpoint):
        fitted = _fit(hub.source, learners, dataset, recipe, listeners, checkpoint, resume, devices, cache or own_cache)
    artifacts = [artifact_of(task, fitted, hub.source, dataset, recipe, about) for task in dataset.tasks]
    if fitted.is_first:
        for artifact in artifacts:
            hub.add(artifact, replace)
        clear(folder)
    return artifacts


def clear(folder: Path) -> None:
    """Removes what a run needs to go on, from its `run_folder`: its tasks are safe."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / CACHE, ignore_errors=True)


def run_folder(hub: Path, names: Sequence[str]) -> Path:
    """Where the run that trains these tasks together keeps its logs and, until it is over, its checkpoint."""
    return hub / "runs" / "+".join(names)[:200]


def require_free(hub: Path, names: Collection[str], replace: bool) -> None:
    """Raises SnowError: a name cannot be a task's, or is taken and may not be replaced; no file can be read there."""
    require_text(str(hub), "the path of hub")
    for name in names:
        check_name(name)
        if not replace and store_of(hub).has(name):
            raise SnowError(f"hub {hub} has a task {name!r} already: replace it or choose another name")


def method_named(name: str) -> type[Method]:
    """Raises SnowError: there is no such method."""
    if name not in METHODS:
        raise SnowError(f"no method {name!r}: there are {', '.join(METHODS)}")
    return METHODS[name]


def artifact_of(
    task: Task,
    fitted: Fitted,
    source: Source,
    dataset: Dataset,
    recipe: Recipe,
    about: Mapping[str, Any] | None = None,
) -> Artifact:
    """The task as it is kept, with what was measured and how it was learned; its learner has its name."""
    method = fitted.learners[task.name].export_form()
    history = [asdict(record) for record in fitted.history if record.learner == task.name]
    column = [one.name for one in dataset.tasks].index(task.name)
    data = {
        **(about or {}),
        "train_images": int((dataset.train.labels[:, column] >= 0).sum()),
        "test_images": int((dataset.test.labels[:, column] >= 0).sum()),
        "fingerprint": data_digest(dataset),
    }
    artifact = Artifact(
        task.name,
        task.classes,
        method,
        source.description(),
        training={"recipe": recipe.to_dict(), "seed": recipe.seed, "data": data, **_split(dataset, column)},
        selection_history=fitted.selection_history.get(task.name),
    )
    measured = fitted.metrics.get(task.name)
    artifact.metrics.update(
        {
            **({} if measured is None else {"test": measured.to_dict()}),
            "learned_parameters": method.learned_parameters,
            "artifact_bytes": artifact.size,
            "seconds": round(sum(record["seconds"] for record in history), 2),
            "history": history,
        }
    )
    return artifact


def _split(dataset: Dataset, column: int) -> dict[str, Any]:
    """Which pictures were held out and learned, where their content is known."""
    record = SplitRecord.of(dataset, column)
    return {} if record is None else {"split": record.to_dict()}


@contextmanager
def rollback(folder: Path, keep: Path) -> Generator[None, None, None]:
    """Removes a folder that a failed block has made, unless it has left `keep` to go on from."""
    was_there = folder.exists()
    try:
        yield
    except BaseException:
        if not was_there and not keep.exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _fit(
    source: Source,
    learners: Mapping[str, Method],
    dataset: Dataset,
    recipe: Recipe,
    listeners: Sequence[Listener],
    checkpoint: Path,
    resume: bool,
    devices: int,
    cache: Path,
) -> Fitted:
    try:
        return fit(
            source,
            learners,
            dataset,
            recipe,
            listeners=listeners,
            checkpoint=checkpoint,
            resume=resume,
            devices=devices,
            cache=cache,
        )
    except torch.OutOfMemoryError:
        raise SnowError(
            f"the device's memory is too small for batches of {recipe.batch_size} pictures at "
            f"{source.preprocessing.image_size} px: use a smaller batch size"
        ) from None
