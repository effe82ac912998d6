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
from snow.training import Runtime
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
    """Measure a task on labelled pictures whose classes have the names that it learned, in any order.

    Args:
        hub: its folder.
        data: as for `snow train`. Where it has no test part, the one is held out that training held out.
        task: which.
        split: the part of the data to measure on.
        label: the label column of a table; by default the one with the task's name, if there is one.
        batch_size: pictures in a batch.
        workers: processes that load pictures.
        precision: of the arithmetic; by default that of the training.
        json: print {"top1", "top5", "images"}, with fractions.
    """
    opened = Hub.open(hub)
    artifact = opened.task(task)
    if batch_size < 1 or workers < 0:
        raise SnowError("the batch size is at least 1 and the workers zero or more")
    with counting("checking pictures") as progress:
        pictures = _pictures(data, artifact, split, label, progress)
    measured = evaluate(
        opened.source,
        {task: artifact.method},
        pictures,
        batch_size=batch_size,
        precision=precision or artifact.training.get("recipe", {}).get("precision", "auto"),
        runtime=Runtime(workers=workers),
    )[task]
    if json:
        print_json(measured.to_dict())
    else:
        row = (task, percent(measured.top1), percent(measured.top5), measured.images)
        print_table(("task", "top-1", "top-5", "pictures"), [row])


def _pictures(data: str, artifact: Artifact, split: str, label: str | None, progress: Progress | None) -> Pictures:
    """The readable ones of that part, with the numbers that the task has for its classes."""
    learned = artifact.training.get("data", {})
    dataset = open_dataset(
        data,
        task=artifact.name,
        labels=_labels(data, artifact.name, label),
        test_fraction=learned.get("test_fraction", 0.2),
        seed=artifact.training.get("seed", 0),
        check=False,
    )
    number = _numbers(dataset, artifact, data)
    parts = {"test": [dataset.test], "train": [dataset.train], "all": [dataset.train, dataset.test]}[split]
    items = [item for part in parts for item in part.items]
    labels = torch.cat([part.labels[:, 0] for part in parts])
    found = faults(items, progress)
    for fault in found:
        if fault:
            note(f"warning: skipped {fault}")
    readable = [index for index, fault in enumerate(found) if not fault]
    if not readable:
        raise SnowError(f"{data}: there is no readable picture in the part {split!r}")
    return Pictures(items, torch.where(labels < 0, labels, number[labels])).subset(readable)


def _labels(data: str, task: str, label: str | None) -> list[str] | None:
    path = Path(data)
    if label is not None:
        return [label]
    is_table = path.is_file() and path.suffix.lower() in TEXT | PARQUET
    return [task] if is_table and task in read_columns(path) else None


def _numbers(dataset: Dataset, artifact: Artifact, data: str) -> torch.Tensor:
    """From a class's number in the data to its number in the task."""
    here, there = dataset.tasks[0].classes, artifact.classes
    if set(here) != set(there):
        missing, unknown = sorted(set(there) - set(here)), sorted(set(here) - set(there))
        told = [
            f"{what} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            for what, names in (("it lacks", missing), ("it has", unknown))
            if names
        ]
        raise SnowError(f"{data}: its classes are not those of task {artifact.name}: {' and '.join(told)}")
    return torch.tensor([there.index(name) for name in here])
