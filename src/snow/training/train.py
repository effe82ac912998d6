"""Train the tasks of a data set and add them to a hub: what `snow train` calls, and most scripts."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import replace as with_changes
from typing import Any

import torch

from snow.data import Dataset, SplitRecord, Task
from snow.errors import MismatchError, NoSpaceError, NotFoundError, SnowError
from snow.hub import Artifact, Hub
from snow.hub.coded_tensors import CodedTensors
from snow.inference.familiarity import Familiarity
from snow.kinds import ClassKind, LabelKind
from snow.methods import METHODS, Method
from snow.methods.low_bit import FULL_BITS
from snow.methods.method import option_values
from snow.process.interrupt import Interrupt
from snow.process.randomness import fork_rng, seed_all
from snow.training.checkpoint import data_digest
from snow.training.familiarity_pass import fit_familiarity
from snow.training.fit import run_job
from snow.training.history import Fitted
from snow.training.hub_run import (
    CACHE,
    CHECKPOINT,
    added_before,
    remove_run,
    require_free,
    require_writable,
    rollback,
    run_folder,
    sole_run,
)
from snow.training.job import RunPaths, TrainingJob
from snow.training.listeners import Listener
from snow.training.recipe import Recipe
from snow.training.runtime import Runtime

log = logging.getLogger("snow")

TUNING = 0.1
"""Fraction of the training pictures that is held out where thresholds have to be picked and no fraction is given."""


def train(
    hub: Hub,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    method: str = "snow",
    config: object | Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
    about: Mapping[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
    resume: bool = False,
    replace: bool = False,
    warm_start: bool = False,
) -> list[Artifact]:
    """Train every task of a data set on one pass of the hub's source, measure it on the test pictures, and add it.

    The state of the run is in `run_folder(hub, names)` while it lasts. If the run is killed, the hub holds complete
    tasks only, and `resume=True` continues.

    Args:
        hub: where the tasks are added.
        dataset: training and test pictures of one task or more.
        recipe: by default `Recipe()`.
        method: a name in `METHODS`.
        config: the method's options: its config class, such as `SnowConfig(...)`, or a mapping by name.
        runtime: by default `Runtime()`. A cache is in the run's folder unless it names another one.
        about: JSON values that the artefacts record of their data: where it is, how it was split.
        listeners: called after every step and epoch.
        resume: continue a run with the same arguments that was stopped, if there is one.
        replace: replace tasks of the hub that have the same names.
        warm_start: train the tasks of the hub that have these names on, with their methods and their choice of
            channels, and replace them. The schedule starts anew: the learning rate falls over the recipe's epochs.

    Returns:
        The tasks, as they are in the hub.

    Raises:
        SnowError: an impossible name, an unknown method or option, data that does not fit; the hub is unchanged.
        MismatchError: a name is taken, or being trained, or the checkpoint is of another run.
        NoSpaceError: too little memory or disk.
        Interrupted: as in `fit`.
    """
    names = [task.name for task in dataset.tasks]
    if warm_start and config is not None:
        raise SnowError("with a warm start the method is that of the task: leave its options out")
    replace = replace or warm_start
    folder = run_folder(hub.path, names)
    recipe, runtime = holding_out(recipe or Recipe(), dataset), runtime or Runtime()
    is_resumed = resume and (folder / CHECKPOINT).exists()
    added = added_before(hub.path, dataset, recipe) if is_resumed else set[str]()
    require_free(hub.path, names, replace, added)
    require_writable(hub.path)
    if runtime.cache_dir is None:
        runtime = with_changes(runtime, cache_dir=folder / CACHE)
    learners = (
        trained_learners(hub, dataset) if warm_start else build_learners(hub, dataset, method, config, recipe.seed)
    )
    for learner in learners.values() if runtime.cache is not None else ():
        if not learner.uses_source:
            raise SnowError(f"method {learner.name} learns from the pictures themselves: leave the cache out")
    if warm_start:
        _warn_of_learned(hub, dataset)
    earlier = {name: hub.task(name) for name in names if warm_start}
    job = TrainingJob(hub.source, learners, dataset, recipe, runtime, RunPaths(folder / CHECKPOINT, resume), warm_start)
    with sole_run(hub.path, names):
        require_free(hub.path, names, replace, added)  # another run may have ended just now
        if not is_resumed:
            shutil.rmtree(folder / CACHE, ignore_errors=True)
        with rollback(folder, keep=folder / CHECKPOINT), _memory_errors(job):
            fitted = run_job(job, listeners)
        familiarity = fit_familiarity(job, fitted.held_out) if fitted.is_first else {}
        artifacts = [artifact_of(task, fitted, job, about, familiarity) for task in dataset.tasks]
        for artifact in artifacts if warm_start else ():
            artifact.training["earlier_recipes"] = earlier_recipes(earlier[artifact.name])
            artifact.training.update(_split_with_earlier(artifact, earlier[artifact.name]))
        if fitted.is_first:
            with Interrupt():  # a signal does not part the tasks of a run
                for artifact in artifacts:
                    hub.add(artifact, replace or artifact.name in added)
                remove_run(folder)
    return artifacts


def holding_out(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Hold pictures out for what a kind of label decides after training, such as thresholds of tags."""
    if recipe.validation or not any(task.kind.tunable for task in dataset.tasks):
        return recipe
    return with_changes(recipe, validation=TUNING)


def build_learners(hub: Hub, dataset: Dataset, method: str, config: object, seed: int) -> dict[str, Method]:
    """Build a method for each task of a data set, with weights that depend on nothing but the seed.

    Raises:
        NotFoundError: there is no such method.
        SnowError: unknown or impossible options.
    """
    kind = method_named(method)
    options = option_values(kind, config)
    for task in dataset.tasks:
        require_kind(kind, task.kind)
    with fork_rng():
        seed_all(seed)
        return {task.name: kind.build(hub.source, task.kind.outputs, options) for task in dataset.tasks}


def require_kind(method: type[Method], kind: LabelKind) -> None:
    """Raises MismatchError: the method cannot learn labels of this kind."""
    if method.classes_only and not isinstance(kind, ClassKind):
        raise MismatchError(f"method {method.name} learns one class per picture, not labels of kind {kind.name}")


def trained_learners(hub: Hub, dataset: Dataset) -> dict[str, Method]:
    """Copy the methods of the tasks of a hub that have the names of those of a data set, to train them on.

    Raises:
        SnowError: there is no such task, or it cannot answer.
        MismatchError: it has other classes.
    """
    learners: dict[str, Method] = {}
    for task in dataset.tasks:
        artifact = hub.task(task.name)
        if artifact.classes != task.classes or artifact.labels.name != task.kind.name:
            raise MismatchError(
                f"task {task.name} has the classes {', '.join(artifact.classes)}, and the data "
                f"{', '.join(task.classes)}: a warm start needs the same classes in the same order"
            )
        learners[task.name] = copy.deepcopy(artifact.method)
    return learners


def _warn_of_learned(hub: Hub, dataset: Dataset) -> None:
    """Warn of test pictures that the tasks were trained on before: another seed holds out other pictures."""
    for task in dataset.tasks:
        record = hub.task(task.name).training.get("split")
        if record is None or dataset.digests is None:
            continue
        learned = sum(map(SplitRecord.from_dict(record).was_trained, dataset.digests.test))
        if learned:
            count = f"{learned} of the {len(dataset.digests.test)} test pictures"
            log.warning("%s are training pictures of task %s: use its seed and test fraction", count, task.name)


def earlier_recipes(artifact: Artifact) -> list[dict[str, Any]]:
    """List the recipes that a task was trained by, in order."""
    return [*artifact.training.get("earlier_recipes", []), artifact.training.get("recipe", {})]


def method_named(name: str) -> type[Method]:
    """Look a method up. Raises NotFoundError: there is no such method."""
    if name not in METHODS:
        raise NotFoundError(f"no method {name!r}: there are {', '.join(METHODS)}")
    return METHODS[name]


def artifact_of(
    task: Task,
    fitted: Fitted,
    job: TrainingJob,
    about: Mapping[str, Any] | None = None,
    familiarity: Mapping[str, Familiarity] | None = None,
) -> Artifact:
    """Make the artefact of a task, with its metrics and how it was trained, from the learner with its name."""
    method = fitted.learners[task.name].export_form()
    history = [asdict(record) for record in fitted.history if record.learner == task.name]
    dataset = job.dataset
    column, bits = [known.name for known in dataset.tasks].index(task.name), job.recipe.weight_bits
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
        job.source.description(),
        training={"recipe": job.recipe.to_dict(), "seed": job.recipe.seed, "data": data, **_split(dataset, column)},
        selection_history=fitted.selection_history.get(task.name),
        labels=fitted.kinds.get(task.name, task.kind),
        familiarity=None if familiarity is None else familiarity.get(task.name),
        coded=None if bits == FULL_BITS else CodedTensors.of(method, job.source, bits),
    )
    measured = fitted.metrics.get(task.name)
    started = fitted.calibration_seconds if task.name in fitted.evidence else 0.0
    artifact.metrics.update(
        {
            **({} if measured is None else {"test": measured.to_dict(), **measured.details()}),
            "learned_parameters": method.learned_parameters,
            "artifact_bytes": artifact.size,
            **({"evidence": fitted.evidence[task.name]} if task.name in fitted.evidence else {}),
            "seconds": round(started + sum(record["seconds"] for record in history), 2),
            "history": history,
        }
    )
    return artifact


def _split(dataset: Dataset, column: int) -> dict[str, Any]:
    """Record which pictures were held out and which were learned, where their content is known."""
    record = SplitRecord.of(dataset, column)
    return {} if record is None else {"split": record.to_dict()}


def _split_with_earlier(artifact: Artifact, earlier: Artifact) -> dict[str, Any]:
    """Record that a task has learned what it had learned before it was trained on."""
    recorded, recorded_before = (task.training.get("split") for task in (artifact, earlier))
    if recorded is None or recorded_before is None:
        return {}
    before = SplitRecord.from_dict(recorded_before)
    return {"split": SplitRecord.from_dict(recorded).with_trained(before.trained, before.all_trained).to_dict()}


@contextmanager
def _memory_errors(job: TrainingJob) -> Generator[None, None, None]:
    """Turn a device's out-of-memory error into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise NoSpaceError(
            f"the device's memory is too small for batches of {job.recipe.batch_size} pictures at "
            f"{job.source.preprocessing.image_size} px: use a smaller batch size"
        ) from None
