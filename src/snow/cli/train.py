"""`snow train`."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import replace as with_changes
from pathlib import Path
from signal import SIGINT
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.evidence import evidence_lines
from snow.cli.hub.place import require
from snow.cli.label_options import Kinds, figures_text, read_kinds, show_kinds
from snow.cli.options import RECIPE, RUNTIME, SNOW, SOURCE, Flag, Json, Names, SourceOptions
from snow.cli.output import counting, megabytes, note, percent, print_json, print_table
from snow.cli.sources import measured_size, open_source
from snow.cli.training_options import SnowOptions, TrainRuntime
from snow.data import open_dataset
from snow.data.label_cells import require_tasks
from snow.distributed.ray_map import Workers, ray_map
from snow.distributed.train_job import TrainRequest, train_job
from snow.errors import SnowError
from snow.experiments.rank.rank import AUTO
from snow.hub import Artifact, Hub
from snow.kinds import ClassKind
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.process.devices import find_device
from snow.process.interrupt import Interrupted
from snow.training import Recipe
from snow.training.hub_run import CHECKPOINT, require_free, rollback, run_folder
from snow.training.launch import is_first
from snow.training.listeners import Listener, ProgressBar
from snow.training.task_labels import require_weighted_names
from snow.training.trackers import LOGS
from snow.training.train import method_named, require_kind, train

Method = Annotated[str, Parameter(help=f"how to train: {', '.join(METHODS)}; `mp:patch=both` is one with options.")]
Columns = Annotated[Names, Parameter(name=("--tasks", "--labels"))]
Logs = Annotated[
    Names, Parameter(help=f"where to write the history, separated by commas: {', '.join(LOGS)}.", show_default=",".join)
]

COSTS = ("test pictures", "parameters", "size", "training")
"""Columns of the table at the end, behind those of the figures."""

app = command("train", "snow train pictures/ --task insects --hub my-hub --epochs 10")


@app.default
def train_command(
    data: str,
    /,
    *,
    hub: Path,
    task: str | None = None,
    labels: Columns = (),
    kind: Kinds = (),
    root: Path | None = None,
    test_fraction: float = 0.2,
    method: Method = "snow",
    replace: Flag = False,
    resume: Flag = False,
    warm_start: Flag = False,
    engine: Literal["local", "ray"] = "local",
    log: Logs = ("csv",),
    json: Json = False,
    workers: Annotated[Workers | None, Parameter(name="*")] = None,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[TrainRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
    options: Annotated[SnowOptions | None, Parameter(name="*", group=SNOW)] = None,
) -> None:
    """Train a task, or several at once, on the frozen CNN of a hub, and add them to the hub.

    Args:
        data: a folder `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or `CLASS/*.jpg`, of which a part is held out; a CSV,
            JSON Lines, Parquet or Excel table of path and label; one of the paper's data sets as it was unpacked; or
            the name of a data set, such as torch/cifar10 or food101:FOLDER.
        hub: folder that holds the source and the tasks; created if it does not exist.
        task: name of the task.
        labels: label columns of a table, separated by commas; each trains a task of its name, all in one pass of the
            source. A picture may lack the label of a task: its cell is empty.
        kind: kinds of labels, as TASK=KIND separated by commas: class; multi for any number of tags (`red|dented`, a
            JSON list, or a column of 0 and 1 named TASK:TAG for each tag); number; ordered for grades, such as
            quality=ordered:bad<fair<good. By default the kind is found from the data.
        root: folder in which the relative paths of a table start and all its pictures lie; by default they start in the
            table's own folder.
        test_fraction: part of each class to test on where the data has no test part.
        replace: replace the task of the hub that has this name.
        resume: continue the same run where it was stopped.
        warm_start: train the task of the hub that has this name for --epochs more, and replace it. Its method and its
            choice of channels stay, and the learning rate follows its schedule from the start again.
        engine: local trains all tasks in one pass; ray trains each on a worker of its own, many at once, on the Ray
            cluster that RAY_ADDRESS names or one of this machine, and continues where a worker is lost.
        json: print {"hub", "tasks": [{"task", "folder", "kind", "top1", "top5", "images", …}]}.
    """
    recipe, runtime, source = recipe or Recipe(), runtime or TrainRuntime(), source or SourceOptions()
    names, kinds = _task_names(task, labels), read_kinds(kind)
    if warm_start and (options is not None or method != "snow" or engine == "ray"):
        raise SnowError("with --warm-start the method is that of the task: omit --method, its options and --engine ray")
    if warm_start:
        require(hub, *names)
    require_free(hub, names, replace or warm_start)
    variant, config = _method_options(method, options)
    listeners = _logs(log, run_folder(hub, names))
    request = TrainRequest(
        hub=hub,
        data=data,
        task=names[0],
        label=None,
        test_fraction=test_fraction,
        recipe=recipe,
        runtime=runtime,
        method=variant.method,
        config=config,
        logs=tuple(log),
        replace=replace,
        root=root,
        kinds=kinds,
    )
    if engine == "ray":
        columns = dict(zip(names, labels or (None,), strict=True))
        target, artifacts = _train_on_ray(request, columns, source, resume, workers)
        _report(target, artifacts, json)
        return
    if workers is not None:
        raise SnowError("--worker-cpus and --worker-gpus need --engine ray")
    find_device(runtime.accelerator)  # before any picture is read
    target, artifacts = _train_here(request, labels, source, resume, listeners, warm_start)
    if is_first():
        _report(target, artifacts, json)


def _train_here(
    request: TrainRequest,
    labels: Sequence[str],
    source: SourceOptions,
    resume: bool,
    listeners: Sequence[Listener],
    warm_start: bool,
) -> tuple[Hub, list[Artifact]]:
    """Train all tasks in one pass of the source."""
    opened = None if source.image_size == AUTO else open_source(request.hub, source, request.recipe.seed)
    with counting("checking pictures") as progress:
        dataset = open_dataset(
            request.data,
            task=request.task,
            labels=labels or None,
            test_fraction=request.test_fraction,
            seed=request.recipe.seed,
            progress=progress,
            root=request.root,
            kinds=request.kinds,
        )
    if opened is None:
        is_new = not (request.hub / "source.json").exists()
        sized = measured_size(source, dataset, request.recipe.seed) if is_new else source
        opened = open_source(request.hub, sized, request.recipe.seed)
    require_weighted_names(request.recipe, [task.kind for task in dataset.tasks])
    checkpoint = run_folder(request.hub, [task.name for task in dataset.tasks]) / CHECKPOINT
    for task in dataset.tasks:
        require_kind(method_named(request.method), task.kind)
    if is_first():
        for warning in dataset.warnings_for(opened.preprocessing.resize):
            note(f"warning: {warning}")
        show_kinds(dataset.tasks)
        _warn_of_restart(checkpoint, resume)
    with rollback(request.hub, keep=checkpoint), _resume_hint(checkpoint):
        target = Hub.create(request.hub, opened) if is_first() else Hub(request.hub, opened)
        artifacts = train(
            target,
            dataset,
            request.recipe,
            method=request.method,
            config=None if warm_start else request.config,
            runtime=request.runtime,
            about={"path": request.data, "labels": list(labels), "test_fraction": request.test_fraction},
            listeners=(*listeners, ProgressBar()),
            resume=resume,
            replace=request.replace,
            warm_start=warm_start,
        )
    return target, artifacts


def _warn_of_restart(checkpoint: Path, resume: bool, prefix: str = "") -> None:
    if checkpoint.exists() and not resume:
        note(f"{prefix}starting over: an earlier run of this name was stopped, and --resume would continue it")


@contextmanager
def _resume_hint(checkpoint: Path) -> Generator[None]:
    """Add to the message of a stopped run how to continue."""
    try:
        yield
    except KeyboardInterrupt as stopped:  # between two acts of a run no step is waited for
        how = " (rerun with --resume to continue)" if checkpoint.exists() else ""
        number = stopped.signal if isinstance(stopped, Interrupted) else SIGINT
        raise Interrupted(f"{str(stopped) or 'interrupted'}{how}", number) from None


def _train_on_ray(
    request: TrainRequest,
    columns: Mapping[str, str | None],
    source: SourceOptions,
    resume: bool,
    workers: Workers | None,
) -> tuple[Hub, list[Artifact]]:
    """Train each task on a worker. Tasks that are done stay, whatever happens to the others.

    Args:
        columns: label column of each task by its name; None where the data has one label.
    """
    runtime = request.runtime
    if runtime.devices != 1:
        raise SnowError("with --engine ray a task has one worker: omit --devices")
    hub = Hub.create(request.hub.resolve(), open_source(request.hub, source, request.recipe.seed))
    request = with_changes(
        request,
        hub=hub.path,
        data=str(Path(request.data).resolve()) if Path(request.data).exists() else request.data,
        runtime=with_changes(runtime, cache_dir=runtime.cache_dir and runtime.cache_dir.resolve()),
        root=request.root and request.root.resolve(),
    )
    require_tasks(request.kinds, {*columns, *filter(None, columns.values())})
    known = {
        name: {key: request.kinds[key] for key in (name, label or name) if key in request.kinds}
        for name, label in columns.items()
    }
    requests = {
        name: with_changes(request, task=name, label=label, kinds=known[name]) for name, label in columns.items()
    }
    for name in requests:
        checkpoint = run_folder(hub.path, [name]) / CHECKPOINT
        _warn_of_restart(checkpoint, resume, f"{name}: ")
        if not resume:
            checkpoint.unlink(missing_ok=True)

    def done(name: str, warnings: Sequence[str]) -> None:
        for warning in warnings:
            note(f"warning: {name}: {warning}")
        note(f"{name}: trained")

    try:
        ray_map(train_job, requests, workers, done)
    except Interrupted as stopped:
        how = " (rerun for the others with --resume)"
        raise Interrupted(f"{stopped}{how}", stopped.signal) from None
    return hub, [hub.task(name) for name in requests]


def _task_names(task: str | None, labels: Sequence[str]) -> list[str]:
    if len(labels) > 1:
        if task is not None:
            raise SnowError("the label columns name the tasks: omit --task")
        return list(labels)
    if task is None and not labels:
        raise SnowError("the task needs a name: add --task NAME, or --tasks COLUMN,… for the columns of a table")
    return [labels[0] if task is None else task]


def _method_options(method: str, options: SnowOptions | None) -> tuple[Variant, dict[str, Any]]:
    variant = Variant(method)
    if options is None:
        return variant, variant.config
    if variant.label != "snow":
        raise SnowError(f"options of method snow cannot go with --method {method}: omit them")
    return variant, asdict(options)


def _logs(names: Sequence[str], folder: Path) -> list[Listener]:
    for name in names:
        if name not in LOGS:
            raise SnowError(f"no log {name!r}: there are {', '.join(LOGS)}")
    return [LOGS[name](folder) for name in names]


def _report(hub: Hub, artifacts: Sequence[Artifact], as_json: bool) -> None:
    entries: list[dict[str, Any]] = []
    for artifact in artifacts:
        metrics = {key: value for key, value in artifact.metrics.items() if key not in ("test", "history", "per_class")}
        measured = artifact.metrics.get("test", {})
        described = {"task": artifact.name, "folder": str(hub.folder(artifact.name)), "kind": artifact.labels.name}
        entries.append({**described, **measured, **metrics})
    if as_json:
        print_json({"hub": str(hub.path), "tasks": entries})
        return
    classes_only = all(isinstance(artifact.labels, ClassKind) for artifact in artifacts)
    print_table(
        ("task", *(("classes", "top-1", "top-5") if classes_only else ("labels", "test")), *COSTS),
        [
            (
                artifact.name,
                *_figures(artifact, entry, classes_only),
                entry.get("images", 0),
                f"{entry['learned_parameters']:,}",
                megabytes(entry["artifact_bytes"]),
                f"{entry['seconds']:.0f} s",
            )
            for artifact, entry in zip(artifacts, entries, strict=True)
        ],
    )
    for artifact in artifacts:
        for line in evidence_lines(artifact.metrics.get("evidence", {})):
            print(f"{artifact.name}: {line}")
    print(f"\nTo classify a picture: snow predict {shlex.quote(str(hub.path))} PICTURE")


def _figures(artifact: Artifact, entry: Mapping[str, Any], classes_only: bool) -> tuple[object, ...]:
    if classes_only:
        return len(artifact.classes), percent(entry.get("top1")), percent(entry.get("top5"))
    return artifact.labels.describe(), figures_text(artifact.labels, entry)
