"""`snow eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from snow.cli.app import command
from snow.cli.options import Flag, Json, Names
from snow.cli.output import counting, note, percent, print_json, print_table
from snow.data import Dataset, Measured, SplitRecord, Task, open_measured
from snow.data.cells import TABLES, read_columns
from snow.data.measured import Inspections, merge_measured
from snow.data.pictures import Progress
from snow.errors import MismatchError, NotFoundError, SnowError
from snow.experiments.report import require_report_folder, write_report
from snow.hub import Artifact, Hub
from snow.kinds import ClassKind, Metrics
from snow.process.devices import find_device
from snow.training import Runtime
from snow.training.checkpoint import data_digest
from snow.training.evaluate import evaluate
from snow.training.recipe import Precision

MISTAKES = 3
"""Classes that the table of classes names beside each."""

app = command("eval", "snow eval my-hub pictures/ --task insects")


@app.default
def eval_command(
    hub: Path,
    data: str,
    /,
    *,
    task: Names = (),
    split: Literal["test", "train", "all"] = "test",
    label: str | None = None,
    root: Path | None = None,
    batch_size: int = 64,
    workers: int = 0,
    precision: Precision | None = None,
    device: str = "auto",
    per_class: Flag = False,
    report: Path | None = None,
    json: Json = False,
) -> None:
    """Evaluate tasks on labelled images. Their classes must have the same names as in training, in any order.

    Args:
        hub: folder of the hub.
        data: as for `snow train`. If it has no test split, evaluates the images held out in training, identified by
            their content; if it has none of these, all of them. A line on stderr says which.
        task: name of the task, or names separated by commas, all measured in one pass; by default all tasks that the
            data has labels for.
        split: the split to evaluate.
        label: label column of a table; by default the one named after the task, if there is one.
        root: folder in which the relative paths of a table start; by default its own.
        batch_size: images per batch.
        workers: processes that load images.
        precision: numerical precision; by default 32, as tasks answer, or int8 for a task that was trained with it.
        device: auto, cpu, cuda, cuda:1 or mps.
        per_class: print a second table, with the recall of each class and the predicted classes of its images.
        report: folder for a report: table of classes, confusion matrix, reliability, the worst mistakes and most
            doubtful images, and a CSV of all answers; with several tasks a folder for each in it.
        json: print {"top1", "top5", "balanced_accuracy", "macro_f1", "ece", "images", "measured", "per_class": {CLASS:
            {"images", "correct", "recall", "predicted": {CLASS: images}}}}; accuracies are fractions, and "measured" is
            held-out, test, train or all. Tags have {"map", "micro_f1", "macro_f1"}, numbers {"mae", "rmse", "r2",
            "spearman"}, grades {"mae_grades", "top1"}. With several tasks: {"tasks": [{"task", "kind", "images", …}]}.
    """
    find_device(device)
    opened = Hub.open(hub)
    if batch_size < 1 or workers < 0:
        raise SnowError(f"--batch-size must be at least 1, not {batch_size}, and --workers at least 0, not {workers}")
    if label is not None and len(task) != 1:
        raise SnowError("--label is for one task: name it with --task")
    with counting("checking images") as progress:
        measured = _measured(opened, data, task, split, label, root, progress)
    several = len(task) != 1
    reports = {name: report / name if several else report for name in measured} if report is not None else {}
    for folder in reports.values():
        require_report_folder(folder)
    for name, part in measured.items():
        for warning in part.warnings:
            note(f"warning: {warning}")
        note(f"measured{f' {name}' if several else ''}: {part.line}")
    artifacts = {name: opened.task(name) for name in measured}
    pictures = merge_measured(list(measured.values()))
    recorded = {artifact.training.get("recipe", {}).get("precision") for artifact in artifacts.values()}
    metrics = evaluate(
        opened.source,
        {name: artifact.method for name, artifact in artifacts.items()},
        pictures,
        tasks=[part.task for part in measured.values()],
        batch_size=batch_size,
        precision=precision or ("int8" if recorded == {"int8"} else "32"),
        runtime=Runtime(workers=workers, accelerator=device),
    )
    entries = {name: _entry(metrics[name], measured[name]) for name in measured}
    for column, (name, folder) in enumerate(reports.items()):
        labelled = (pictures.labels[:, column] >= 0).nonzero().flatten().tolist()
        items = [pictures.items[index] for index in labelled]
        entries[name].update(write_report(folder, name, artifacts[name].labels, items, metrics[name]))
    if json:
        rows = [{"task": name, "kind": artifacts[name].labels.name, **entry} for name, entry in entries.items()]
        print_json({"tasks": rows} if several else entries[task[0]])
        return
    _print(artifacts, metrics, entries)
    for name in measured if per_class else ():
        print()
        _print_names(name if several else "", metrics[name].details().get("per_class", {}))


def _entry(metrics: Metrics, measured: Measured) -> dict[str, Any]:
    return {**metrics.to_dict(), "measured": measured.basis, **metrics.details()}


def _print(
    artifacts: Mapping[str, Artifact], metrics: Mapping[str, Metrics], entries: Mapping[str, Mapping[str, Any]]
) -> None:
    """Print a table for each kind of label: a row per task, a column per figure."""
    kinds = {artifact.labels.name: artifact.labels for artifact in artifacts.values()}
    for number, kind in enumerate(kinds.values()):
        if number:
            print()
        rows = []
        for name, artifact in artifacts.items():
            if artifact.labels.name == kind.name:
                figures = artifact.labels.figure_texts(entries[name])
                rows.append((name, *figures, metrics[name].images, entries[name]["measured"]))
        print_table(("task", *(figure.title for figure in kind.figures), "images", "measured"), rows)


def _print_names(task: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a row for each class, grade or tag."""
    title = f"{task}: class" if task else "class"
    if all("predicted" in entry for entry in entries.values()):
        print_table((title, "images", "recall", "predicted instead"), [_class_row(*entry) for entry in entries.items()])
        return
    rows = [
        (
            name,
            entry["images"],
            *(percent(entry[key]) for key in ("precision", "recall", "average_precision")),
            f"{entry['threshold']:.2f}",
        )
        for name, entry in entries.items()
    ]
    print_table((title, "images", "precision", "recall", "AP", "threshold"), rows)


def _class_row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    mistakes = sorted(entry["predicted"].items(), key=lambda item: -item[1])
    others = [f"{other} ({count})" for other, count in mistakes if other != name]
    more = [f"and {len(others) - MISTAKES} more"] if len(others) > MISTAKES else []
    return name, str(entry["images"]), percent(entry["recall"]), ", ".join(others[:MISTAKES] + more)


def _measured(
    hub: Hub,
    data: str,
    names: Sequence[str],
    split: Literal["test", "train", "all"],
    label: str | None,
    root: Path | None,
    progress: Progress | None,
) -> dict[str, Measured]:
    """Open the images of each task; without names of all tasks that the data has labels for.

    Raises:
        SnowError: as `open_measured`; the data has labels for no task.
    """
    inspections: Inspections = {}
    measured: dict[str, Measured] = {}
    columns = _columns(data)
    for name in names or hub.names():
        artifact = hub.task(name)
        labels = [label] if label is not None else [name] if columns is not None and name in columns else None
        if not names and columns is not None and labels is None:
            continue
        try:
            measured[name] = _open(data, artifact, split, labels, root, progress, inspections)
        except MismatchError as error:
            if names:
                raise
            if columns is not None:
                note(f"warning: task {name} is not measured: {error}")
    if not measured:
        raise NotFoundError(
            f"{data}: it has labels for no task of hub {hub.path}; the tasks are {', '.join(hub.names())}"
        )
    return measured


def _open(
    data: str,
    artifact: Artifact,
    split: Literal["test", "train", "all"],
    labels: list[str] | None,
    root: Path | None,
    progress: Progress | None,
    inspections: Inspections,
) -> Measured:
    """Select the readable images of a split, with the numbers of their labels."""
    recorded = artifact.training.get("split")
    return open_measured(
        data,
        Task(artifact.name, artifact.classes, artifact.labels),
        None if recorded is None else SplitRecord.from_dict(recorded),
        split,
        labels=labels,
        root=root,
        progress=progress,
        held_out_before=lambda dataset: _held_out_by_0_1(dataset, artifact),
        inspections=inspections,
    )


def _held_out_by_0_1(dataset: Dataset, artifact: Artifact) -> Dataset | None:
    """What version 0.1 held out, which recorded no split but a digest of the data and of both parts."""
    learned = artifact.training.get("data", {})
    if "fingerprint" not in learned or not len(dataset.train) or not isinstance(artifact.labels, ClassKind):
        return None
    again = dataset.held_out(learned.get("test_fraction", 0.2), artifact.training.get("seed", 0))
    return again if data_digest(again) == learned["fingerprint"] else None


def _columns(data: str) -> set[str] | None:
    """List the label columns of a table, those of tags by their task; None for other data."""
    path = Path(data)
    if not path.is_file() or path.suffix.lower() not in TABLES:
        return None
    columns = read_columns(path)
    return {*columns, *(name.partition(":")[0] for name in columns)}
