"""`snow eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from snow.cli.app import command
from snow.cli.options import Json
from snow.cli.output import counting, note, percent, print_json, print_table
from snow.data import Dataset, Pictures, open_dataset
from snow.data.cells import PARQUET, TEXT, read_columns
from snow.data.pictures import Progress, faults
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.training.evaluate import evaluate
from snow.training.recipe import Precision

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
    batch_size: int = 64,
    workers: int = 0,
    precision: Precision | None = None,
    json: Json = False,
) -> None:
    """Evaluate a task on labelled images. Their classes must have the same names as in training, in any order.

    Args:
        hub: folder of the hub.
        data: as for `snow train`. If it has no test split, the same images are held out as in training.
        task: name of the task.
        split: the split to evaluate.
        label: label column of a table; by default the one named after the task, if there is one.
        batch_size: images per batch.
        workers: processes that load images.
        precision: numerical precision; by default that of training.
        json: print {"top1", "top5", "images"}; accuracies are fractions.
    """
    opened = Hub.open(hub)
    artifact = opened.task(task)
    if batch_size < 1 or workers < 0:
        raise SnowError("--batch-size is at least 1, and --workers at least 0")
    with counting("checking images") as progress:
        pictures = _pictures(data, artifact, split, label, progress)
    measured = evaluate(
        opened.source,
        {task: artifact.method},
        pictures,
        batch_size=batch_size,
        workers=workers,
        precision=precision or artifact.training.get("recipe", {}).get("precision", "auto"),
    )[task]
    if json:
        print_json(measured.to_dict())
    else:
        row = (task, percent(measured.top1), percent(measured.top5), measured.images)
        print_table(("task", "top-1", "top-5", "images"), [row])


def _pictures(data: str, artifact: Artifact, split: str, label: str | None, progress: Progress | None) -> Pictures:
    """Select the readable images of a split, with their labels in the class order of the task."""
    training_data = artifact.training.get("data", {})
    dataset = open_dataset(
        data,
        task=artifact.name,
        labels=_labels(data, artifact.name, label),
        test_fraction=training_data.get("test_fraction", 0.2),
        seed=artifact.training.get("seed", 0),
        check=False,
    )
    class_numbers = _class_numbers(dataset, artifact, data)
    parts = {"test": [dataset.test], "train": [dataset.train], "all": [dataset.train, dataset.test]}[split]
    items = [item for part in parts for item in part.items]
    labels = torch.cat([part.labels[:, 0] for part in parts])
    reasons = faults(items, progress)
    for reason in filter(None, reasons):
        note(f"warning: skipped {reason}")
    readable = [index for index, reason in enumerate(reasons) if not reason]
    if not readable:
        raise SnowError(f"{data} has no readable image in split {split!r}")
    return Pictures(items, torch.where(labels < 0, labels, class_numbers[labels])).subset(readable)


def _labels(data: str, task: str, label: str | None) -> list[str] | None:
    path = Path(data)
    if label is not None:
        return [label]
    is_table = path.is_file() and path.suffix.lower() in TEXT | PARQUET
    return [task] if is_table and task in read_columns(path) else None


def _class_numbers(dataset: Dataset, artifact: Artifact, data: str) -> torch.Tensor:
    """Map class numbers of the data to those of the task: (classes,) int64."""
    in_data, in_task = dataset.tasks[0].classes, artifact.classes
    if set(in_data) != set(in_task):
        missing, unknown = sorted(set(in_task) - set(in_data)), sorted(set(in_data) - set(in_task))
        differences = [
            f"{verb} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            for verb, names in (("it lacks", missing), ("it has", unknown))
            if names
        ]
        raise SnowError(f"the classes of {data} are not those of task {artifact.name}: {' and '.join(differences)}")
    return torch.tensor([in_task.index(name) for name in in_data])
