"""`snow train`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import RECIPE, SNOW, SOURCE, Flag, Json, Names, SnowOptions, SourceOptions
from snow.cli.output import counting, megabytes, note, percent, print_json, print_table
from snow.cli.sources import open_source
from snow.data import open_dataset
from snow.distributed.ray_map import Workers, ray_map
from snow.distributed.train_job import TrainJob, train_job
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.training import Recipe
from snow.training.launch import is_launched
from snow.training.listeners import LOGS, ProgressBar
from snow.training.train import require_free, rollback, run_folder, train

Method = Annotated[str, Parameter(help=f"how to learn: {', '.join(METHODS)}; `mp:patch=both` is one with options.")]
Columns = Annotated[Names, Parameter(name=("--tasks", "--labels"))]
Logs = Annotated[
    Names, Parameter(help=f"what keeps the history, with commas between: {', '.join(LOGS)}.", show_default=",".join)
]

app = command("train", "snow train pictures/ --task insects --hub my-hub --epochs 10")


@app.default
def train_command(
    data: str,
    /,
    *,
    hub: Path,
    task: str | None = None,
    labels: Columns = (),
    root: Path | None = None,
    test_fraction: float = 0.2,
    method: Method = "snow",
    replace: Flag = False,
    resume: Flag = False,
    devices: int = 1,
    engine: Literal["local", "ray"] = "local",
    cache_dir: Path | None = None,
    log: Logs = ("csv",),
    json: Json = False,
    apart: Annotated[Workers | None, Parameter(name="*")] = None,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    options: Annotated[SnowOptions | None, Parameter(name="*", group=SNOW)] = None,
) -> None:
    """Train a task, or several at once, on the frozen CNN of a hub, and keep them there.

    Args:
        data: a folder `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or `CLASS/*.jpg`, of which a part is held out; a CSV
            or Parquet table of path and label; one of the paper's data sets as it was unpacked; or the name of a data
            set, such as torch/cifar10 or food101:FOLDER.
        hub: folder that holds the source and the tasks; made if it is not there.
        task: what to call it.
        labels: label columns of a table, with commas between; each trains a task of its name, all in one pass of the
            source. A picture may lack the label of a task: its cell is empty.
        root: folder in which the relative paths of a table start and all its pictures lie; by default they start in the
            table's own folder.
        test_fraction: part of each class to test on where the data has no test part.
        replace: put the task in the place of the one with its name.
        resume: go on with the same run where it was stopped.
        devices: processes that share each batch, one a GPU or some CPU cores.
        engine: local learns all tasks in one pass; ray learns each on a worker of its own, many at once, on the Ray
            cluster that RAY_ADDRESS names or one of this machine, and goes on where a worker is lost.
        cache_dir: folder for what --cache keeps, for other runs to use as well; by default it goes with the run.
        json: print {"hub", "tasks": [{"task", "folder", "top1", "top5", "images", …}]}.
    """
    recipe, source = recipe or Recipe(), source or SourceOptions()
    names = _task_names(task, labels)
    require_free(hub, names, replace)
    variant, config = _chosen(method, options)
    listeners = _logs(log, run_folder(hub, names))
    if engine == "ray":
        if devices != 1:
            raise SnowError("with --engine ray a task has one worker: leave --devices out")
        kept = Hub.create(hub.resolve(), open_source(hub, source, recipe.seed))
        place = str(Path(data).resolve()) if Path(data).exists() else data
        cache = cache_dir and cache_dir.resolve()
        fixed = (test_fraction, recipe, variant.method, config, tuple(log), replace, cache, root and root.resolve())
        columns = labels or (None,)
        given = {
            name: TrainJob(kept.path, place, name, column, *fixed) for name, column in zip(names, columns, strict=True)
        }
        _scatter(given, resume, apart)
        _report(kept, [kept.task(name) for name in names], json)
        return
    if apart is not None:
        raise SnowError("worker_cpus and worker_gpus need --engine ray")
    opened = open_source(hub, source, recipe.seed)
    with counting("checking pictures") as progress:
        dataset = open_dataset(
            data,
            task=names[0],
            labels=labels or None,
            test_fraction=test_fraction,
            seed=recipe.seed,
            progress=progress,
            root=root,
        )
    first = not is_launched() or os.environ["RANK"] == "0"
    if first:
        for warning in dataset.warnings:
            note(f"warning: {warning}")
    checkpoint = run_folder(hub, names) / "checkpoint.pt"
    if first and checkpoint.exists() and not resume:
        note("starting over: a run of this name was stopped; --resume would have gone on with it")
    with rollback(hub, keep=checkpoint):
        target = Hub.create(hub, opened) if first else Hub(hub, opened)
        try:
            artifacts = train(
                target,
                dataset,
                recipe,
                method=variant.method,
                config=config,
                about={"path": data, "labels": list(labels), "test_fraction": test_fraction},
                listeners=(*listeners, ProgressBar()),
                resume=resume,
                replace=replace,
                devices=devices,
                cache=cache_dir,
            )
        except Interrupted as stopped:
            how = " (the same command with --resume goes on)" if checkpoint.exists() else ""
            raise Interrupted(f"{stopped}{how}", stopped.signal) from None
    if first:
        _report(target, artifacts, json)


def _scatter(given: Mapping[str, TrainJob], resume: bool, workers: Workers | None) -> None:
    """Learns each task on a worker; those that are done stay, whatever becomes of the others."""
    checkpoints = {name: run_folder(one.hub, [name]) / "checkpoint.pt" for name, one in given.items()}
    for name, checkpoint in checkpoints.items():
        if checkpoint.exists() and not resume:
            note(f"{name}: starting over: a run of this name was stopped; --resume would have gone on with it")
            checkpoint.unlink()

    def done(name: str, warnings: Sequence[str]) -> None:
        for warning in warnings:
            note(f"warning: {name}: {warning}")
        note(f"{name}: learned")

    try:
        ray_map(train_job, given, workers, done)
    except Interrupted as stopped:
        how = " (the same command for the others, with --resume, goes on)"
        raise Interrupted(f"{stopped}{how}", stopped.signal) from None


def _task_names(task: str | None, labels: Sequence[str]) -> list[str]:
    if len(labels) > 1:
        if task is not None:
            raise SnowError("several label columns name their tasks themselves: leave --task out")
        return list(labels)
    if task is None and not labels:
        raise SnowError("the task needs a name: add --task NAME, or --tasks COLUMN,… for the columns of a table")
    return [labels[0] if task is None else task]


def _chosen(method: str, options: SnowOptions | None) -> tuple[Variant, dict[str, Any]]:
    variant = Variant(method)
    if options is None:
        return variant, variant.config
    if variant.label != "snow":
        raise SnowError(f"options of method snow cannot go with --method {method}: leave them out")
    return variant, asdict(options)


def _logs(names: Sequence[str], folder: Path) -> list[Any]:
    for name in names:
        if name not in LOGS:
            raise SnowError(f"no log {name!r}: there are {', '.join(LOGS)}")
    return [LOGS[name](folder) for name in names]


def _report(hub: Hub, artifacts: Sequence[Artifact], as_json: bool) -> None:
    entries: list[dict[str, Any]] = []
    for artifact in artifacts:
        metrics = {key: value for key, value in artifact.metrics.items() if key not in ("test", "history")}
        measured = artifact.metrics.get("test", {})
        entries.append({"task": artifact.name, "folder": str(hub.folder(artifact.name)), **measured, **metrics})
    if as_json:
        print_json({"hub": str(hub.path), "tasks": entries})
        return
    print_table(
        ("task", "classes", "top-1", "top-5", "test pictures", "parameters", "size", "training"),
        [
            (
                artifact.name,
                len(artifact.classes),
                percent(entry.get("top1")),
                percent(entry.get("top5")),
                entry.get("images", 0),
                f"{entry['learned_parameters']:,}",
                megabytes(entry["artifact_bytes"]),
                f"{entry['seconds']:.0f} s",
            )
            for artifact, entry in zip(artifacts, entries, strict=True)
        ],
    )
    print(f"\nNow ask about a picture: snow predict {shlex.quote(str(hub.path))} PICTURE")
