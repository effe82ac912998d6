"""What every reader finds, rows of picture and class names, and the one way from there to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from snow.data.pictures import Item, Pictures, Progress, faults
from snow.data.task import Dataset, Task
from snow.errors import SnowError

Split = Literal["train", "test"]

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}
"""Names of the two parts, in lower case; of several for one part, the first in this order is used."""


@dataclass(frozen=True, slots=True)
class Row:
    """A picture, its class in each task (None: no label) and its part; None for the parts are drawn later."""

    item: Item
    classes: tuple[str | None, ...]
    split: Split | None = None


@dataclass(frozen=True)
class Opening:
    """How a data set is opened; the fields are the arguments of `open_dataset`."""

    test_fraction: float = 0.2
    seed: int = 0
    check: bool = True
    progress: Progress | None = None


def assemble(
    tasks: Sequence[Task], rows: Sequence[Row], warnings: Sequence[str], opening: Opening, source: str
) -> Dataset:
    """Leaves out what cannot be read, draws the parts if rows have none, refuses what cannot be learned.

    Args:
        tasks: the tasks, with the classes that training should have.
        rows: pictures, all with a part or all without.
        warnings: lines about what was left out before.
        source: what the data set is called in errors.

    Raises:
        SnowError: a class without a training picture, a test picture of an unknown class, no test picture.
    """
    _refuse_strangers(tasks, rows, source)
    skipped = [line for line in warnings if line.startswith("skipped")]
    _refuse_untaught(tasks, rows, skipped, source)
    broken: list[str] = []
    if opening.check:
        found = faults([row.item for row in rows], opening.progress)
        broken = [f"skipped {fault}" for fault in found if fault]
        rows = [row for row, fault in zip(rows, found, strict=True) if not fault]
        _refuse_untaught(tasks, rows, skipped + broken, source)
    numbers = [{name: number for number, name in enumerate(task.classes)} for task in tasks]
    labels = torch.tensor(
        [[numbers[t].get(name or "", -1) for t, name in enumerate(row.classes)] for row in rows],
        dtype=torch.int64,
    )
    pictures = Pictures([row.item for row in rows], labels)
    if rows[0].split is None:
        train, test = pictures.split(opening.test_fraction, opening.seed)
    else:
        train, test = (
            pictures.subset([index for index, row in enumerate(rows) if row.split == split])
            for split in ("train", "test")
        )
    if not len(test):
        raise SnowError(f"{source}: there is no readable test picture{_first(skipped + broken)}")
    return Dataset(tuple(tasks), train, test, (*warnings, *broken, *_untested(tasks, test)))


def _refuse_strangers(tasks: Sequence[Task], rows: Sequence[Row], source: str) -> None:
    for t, task in enumerate(tasks):
        found = {row.classes[t] for row in rows if row.split == "test"} - {None, *task.classes}
        if found:
            names = ", ".join(sorted(repr(name) for name in found))
            raise SnowError(f"{source}: the test split of task {task.name!r} has {names}, which training has not")


def _refuse_untaught(tasks: Sequence[Task], rows: Sequence[Row], skipped: Sequence[str], source: str) -> None:
    for t, task in enumerate(tasks):
        taught = {row.classes[t] for row in rows if row.split != "test"}
        for name in task.classes:
            if name not in taught:
                raise SnowError(
                    f"{source}: class {name!r} of task {task.name!r} has no readable training picture: "
                    f"add some or remove the class{_first(skipped)}"
                )


def _first(skipped: Sequence[str]) -> str:
    return f" ({len(skipped)} skipped in all, first {skipped[0].removeprefix('skipped ')})" if skipped else ""


def _untested(tasks: Sequence[Task], test: Pictures) -> list[str]:
    lines = []
    for task, column in zip(tasks, test.labels.unbind(1), strict=True):
        present = set(column.tolist())
        names = [name for number, name in enumerate(task.classes) if number not in present]
        if names:
            lines.append(f"task {task.name!r}: no test picture of {', '.join(repr(name) for name in names)}")
    return lines
