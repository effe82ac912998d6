"""`snow eval`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from snow.cli.app import command
from snow.cli.options import Flag, Json
from snow.cli.output import counting, note, percent, print_json, print_table
from snow.data import Dataset, Measured, SplitRecord, Task, open_measured
from snow.data.cells import PARQUET, TEXT, read_columns
from snow.data.pictures import Progress
from snow.errors import SnowError
from snow.hub import Artifact, Hub
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
    task: str,
    split: Literal["test", "train", "all"] = "test",
    label: str | None = None,
    root: Path | None = None,
    batch_size: int = 64,
    workers: int = 0,
    precision: Precision | None = None,
    device: str = "auto",
    per_class: Flag = False,
    json: Json = False,
) -> None:
    """Evaluate a task on labelled images. Their classes must have the same names as in training, in any order.

    Args:
        hub: folder of the hub.
        data: as for `snow train`. If it has no test split, the images are evaluated that training held out, identified
            by their content; if it has none of these, all of them. A line on the standard error says which.
        task: name of the task.
        split: the split to evaluate.
        label: label column of a table; by default the one named after the task, if there is one.
        root: folder in which the relative paths of a table start; by default its own.
        batch_size: images per batch.
        workers: processes that load images.
        precision: numerical precision; by default that of training.
        device: auto, cpu, cuda, cuda:1 or mps.
        per_class: print a second table, with the recall of each class and what its images were taken for.
        json: print {"top1", "top5", "images", "ece", "measured", "per_class": {CLASS: {"images", "correct", "recall",
            "predicted": {CLASS: images}}}}; accuracies are fractions, "ece" is the expected calibration error, the mean
            difference of confidence and accuracy, and "measured" is held-out, test, train or all.
    """
    find_device(device)
    opened = Hub.open(hub)
    artifact = opened.task(task)
    if batch_size < 1 or workers < 0:
        raise SnowError("--batch-size is at least 1, and --workers at least 0")
    with counting("checking images") as progress:
        measured = _measured(data, artifact, split, label, root, progress)
    for warning in measured.warnings:
        note(f"warning: {warning}")
    note(f"measured: {measured.line}")
    metrics = evaluate(
        opened.source,
        {task: artifact.method},
        measured.pictures,
        batch_size=batch_size,
        precision=precision or artifact.training.get("recipe", {}).get("precision", "auto"),
        runtime=Runtime(workers=workers, accelerator=device),
        confusion=True,
    )[task]
    classes = metrics.per_class(artifact.classes)
    if json:
        print_json({**metrics.to_dict(), "measured": measured.basis, "per_class": classes})
        return
    row = (task, percent(metrics.top1), percent(metrics.top5), f"{metrics.ece:.3f}", metrics.images, measured.basis)
    print_table(("task", "top-1", "top-5", "ECE", "images", "measured"), [row])
    if per_class:
        print()
        print_table(("class", "images", "recall", "taken for"), [_class_row(*entry) for entry in classes.items()])


def _class_row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    mistakes = sorted(entry["predicted"].items(), key=lambda item: -item[1])
    others = [f"{other} ({count})" for other, count in mistakes if other != name]
    more = [f"and {len(others) - MISTAKES} more"] if len(others) > MISTAKES else []
    return name, str(entry["images"]), percent(entry["recall"]), ", ".join(others[:MISTAKES] + more)


def _measured(
    data: str,
    artifact: Artifact,
    split: Literal["test", "train", "all"],
    label: str | None,
    root: Path | None,
    progress: Progress | None,
) -> Measured:
    """Select the readable images of a split, with their labels in the class order of the task."""
    recorded = artifact.training.get("split")
    return open_measured(
        data,
        Task(artifact.name, artifact.classes),
        None if recorded is None else SplitRecord.from_dict(recorded),
        split,
        labels=_labels(data, artifact.name, label),
        root=root,
        progress=progress,
        held_out_before=lambda dataset: _held_out_by_0_1(dataset, artifact),
    )


def _held_out_by_0_1(dataset: Dataset, artifact: Artifact) -> Dataset | None:
    """What version 0.1 held out, which recorded no split but a digest of the data and of both parts."""
    learned = artifact.training.get("data", {})
    if "fingerprint" not in learned or not len(dataset.train):
        return None
    again = dataset.held_out(learned.get("test_fraction", 0.2), artifact.training.get("seed", 0))
    return again if data_digest(again) == learned["fingerprint"] else None


def _labels(data: str, task: str, label: str | None) -> list[str] | None:
    path = Path(data)
    if label is not None:
        return [label]
    is_table = path.is_file() and path.suffix.lower() in TEXT | PARQUET
    return [task] if is_table and task in read_columns(path) else None
