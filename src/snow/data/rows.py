"""Rows of picture and class names, which every reader makes, and how a data set is made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from snow.data.labels import lookalikes
from snow.data.pictures import WIDE, Item, Pictures, Progress, inspect
from snow.data.split import copies_in_test, hold_out, in_several_classes
from snow.data.task import ContentDigests, Dataset, Task, strata_of
from snow.errors import SnowError, shortened
from snow.kinds import ClassKind, KindSpec, kind_named

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

NO_NUMBER = "is taken for classes, since"
"""In a warning of a column of numbers with words among them."""

_FILLERS = frozenset({"", "set", "data", "dataset", "split", "seg", "img", "imgs", "images", "pictures", "photos"})


def part_name(name: str) -> str | None:
    """Find the key of `SPLITS` that a folder or cell names: "training_set" -> "training", "seg_train" -> "train"."""
    words = [word.removesuffix("set") for word in re.split(r"[\W_\d]+", name.lower())]
    words = [word for word in words if word not in _FILLERS]
    return words[0] if len(words) == 1 and words[0] in SPLITS else None


@dataclass(frozen=True, slots=True)
class Row:
    """A picture, its label in each task as text (None: no label) and its part; None for the parts are drawn later."""

    item: Item
    classes: tuple[str | None, ...]
    split: Split | None = None


@dataclass(frozen=True)
class Opening:
    """How a data set is opened; the fields are the arguments of `open_dataset`.

    Attributes:
        for_training: whether there must be something to learn. Without it a test part alone will do.
    """

    test_fraction: float = 0.2
    seed: int = 0
    check: bool = True
    progress: Progress | None = None
    for_training: bool = True


@dataclass(frozen=True)
class Listing:
    """The pictures of a data set before any is read.

    Attributes:
        tasks: name of each.
        classes: of each task those that training should have; only of tasks of kind class.
        rows: pictures, all with a part or all without.
        warnings: lines about what was left out.
        source: what the data set is called in errors.
        kinds: of each task what its labels are; () for classes.
    """

    tasks: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    rows: Sequence[Row]
    warnings: Sequence[str]
    source: str
    kinds: tuple[KindSpec, ...] = ()

    def kind(self, column: int) -> KindSpec:
        """Return the kind of a task."""
        return self.kinds[column] if self.kinds else KindSpec(ClassKind.name)


def assemble(listing: Listing, opening: Opening) -> Dataset:
    """Make a data set: skip unreadable pictures, draw the parts if rows have none, refuse what cannot be learned.

    Raises:
        SnowError: a class without a training picture, a test picture of an unknown class, no test picture.
    """
    rows, source = listing.rows, listing.source
    tasks = [_task(listing, column) for column in range(len(listing.tasks))]
    _refuse_strangers(tasks, rows, source)
    reasons = [line for line in listing.warnings if line.startswith(("skipped", "ignored in")) or NO_NUMBER in line]
    _refuse_untaught(tasks, rows, reasons, source)
    broken: list[str] = []
    digests: list[bytes] | None = None
    wide = 0
    if opening.check or rows[0].split is None:
        looks = inspect([row.item for row in rows], opening.progress, decoded=opening.check)
        broken = [f"skipped {look.fault}" for look in looks if look.fault]
        digests = [look.digest for look in looks if not look.fault]
        wide = sum(look.is_wide for look in looks)
        rows = [row for row, look in zip(rows, looks, strict=True) if not look.fault]
        _refuse_untaught(tasks, rows, reasons + broken, source)
    pictures = Pictures([row.item for row in rows], _labels(tasks, rows))
    if rows[0].split is None and digests is not None:
        strata = strata_of(tasks, pictures.labels)
        is_test = hold_out(strata, digests, opening.test_fraction, opening.seed)
    else:
        is_test = torch.tensor([row.split == "test" for row in rows])
    train, test = ((is_test == part).nonzero().flatten().tolist() for part in (False, True))
    if not test and rows[0].split is None:
        fault = _single(tasks, pictures) or "no class has a second picture"
        fault += ", and one of each is needed to train on, so none is left to test on: add pictures"
        raise SnowError(f"{source}: {fault}{_first(reasons + broken)}")
    if not test:
        raise SnowError(f"{source}: there is no readable test picture{_first(reasons + broken)}")
    dataset = Dataset(tuple(tasks), pictures.subset(train), pictures.subset(test))
    lines = [f"task {task.name!r}: {line}" for task in tasks for line in lookalikes(task.classes)]
    lines += _untested(tasks, dataset.test)
    fault = _single(tasks, pictures)
    if rows[0].split is None and fault and len(test) < opening.test_fraction * len(rows) / 2:
        lines.append(f"only {len(test)} of {len(rows)} pictures are left to test all tasks on: {fault}")
    if digests is not None:
        held_out = rows[0].split is None
        parts = ContentDigests(*(tuple(digests[index] for index in part) for part in (train, test)), held_out)
        dataset = replace(dataset, digests=parts)
        lines += _copies(rows, digests, dataset)
    crop_warning = (
        f"{source}: {wide} of {len(rows)} pictures are wider than {WIDE}:1 or taller than 1:{WIDE}, and a square crop "
        "loses their ends: --resize pad or squash shows them whole"
    )
    warnings = (*listing.warnings, *broken, *lines)
    return replace(dataset, warnings=warnings, crop_warning=crop_warning if wide else "")


def _task(listing: Listing, column: int) -> Task:
    """Make a task; what its kind has to know of labels comes from the training pictures."""
    name, spec = listing.tasks[column], listing.kind(column)
    if spec.name == ClassKind.name:
        return Task(name, listing.classes[column])
    learned = _labels_of([row for row in listing.rows if row.split != "test"], column)
    if not learned:
        raise SnowError(f"{listing.source}: no training picture has a label for task {name!r}")
    kind = kind_named(spec.name).of_labels(name, learned, spec.option)
    return Task(name, kind.names, kind, tuple(sorted(set(_labels_of(listing.rows, column)))))


def _labels_of(rows: Sequence[Row], column: int) -> list[str]:
    """List the labels that rows have in one task."""
    return [label for row in rows if (label := row.classes[column]) is not None]


def _labels(tasks: Sequence[Task], rows: Sequence[Row]) -> torch.Tensor:
    """Number the labels of rows: int64 (n, T), -1 for no label."""
    numbers = [{name: number for number, name in enumerate(task.labels)} for task in tasks]
    table = [[numbers[t].get(name or "", -1) for t, name in enumerate(row.classes)] for row in rows]
    return torch.tensor(table, dtype=torch.int64)


def _refuse_strangers(tasks: Sequence[Task], rows: Sequence[Row], source: str) -> None:
    for t, task in enumerate(tasks):
        strangers = task.kind.unknown(_labels_of([row for row in rows if row.split == "test"], t))
        if strangers:
            names = shortened(strangers)
            raise SnowError(f"{source}: the test split of task {task.name!r} has {names}, which training has not")


def _refuse_untaught(tasks: Sequence[Task], rows: Sequence[Row], reasons: Sequence[str], source: str) -> None:
    for t, task in enumerate(tasks):
        taught = _labels_of([row for row in rows if row.split != "test"], t)
        for name in task.kind.absent(taught):
            raise SnowError(
                f"{source}: class {name!r} of task {task.name!r} has no readable training picture: "
                f"add some or remove the class{_first(reasons)}"
            )


def _single(tasks: Sequence[Task], pictures: Pictures) -> str:
    """Name the one of several tasks with most classes of a single picture, such as a date; "" if there is none."""
    if len(tasks) < 2:
        return ""
    counts = [column[column >= 0].unique(return_counts=True)[1] for column in pictures.labels.unbind(1)]
    single = [int((count == 1).sum()) for count in counts]
    single = [0 if task.targets is not None else number for task, number in zip(tasks, single, strict=True)]
    worst = max(range(len(tasks)), key=single.__getitem__)
    if not single[worst]:
        return ""
    return f"task {tasks[worst].name!r} has {single[worst]} of {len(counts[worst])} classes with a single picture"


def _first(reasons: Sequence[str]) -> str:
    """Quote the first reason why pictures are missing; skipped pictures say more than ignored files.

    Labels that were to be numbers say most.
    """
    numbers = [line for line in reasons if NO_NUMBER in line]
    if numbers:
        return f" ({numbers[0]})"
    skipped = [line for line in reasons if line.startswith("skipped")]
    if skipped:
        return f" ({len(skipped)} skipped in all, first {skipped[0].removeprefix('skipped ')})"
    return f" ({reasons[0]})" if reasons else ""


def _untested(tasks: Sequence[Task], test: Pictures) -> list[str]:
    lines = []
    for task, column in zip(tasks, test.labels.unbind(1), strict=True):
        names = task.kind.absent([task.labels[number] for number in column.unique().tolist() if number >= 0])
        if names:
            lines.append(f"task {task.name!r}: no test picture of {shortened(names)}")
    return lines


def _copies(rows: Sequence[Row], digests: Sequence[bytes], dataset: Dataset) -> list[str]:
    """Warn of test pictures that are training pictures, and of pictures in several classes."""
    if dataset.digests is None:
        return []
    train, test = (
        _first_items(hashes, pictures.items)
        for hashes, pictures in ((dataset.digests.train, dataset.train), (dataset.digests.test, dataset.test))
    )
    lines = copies_in_test(train, test, sum(digest in train for digest in dataset.digests.test))
    items = [row.item for row in rows]
    for t in range(len(dataset.tasks)):
        lines += in_several_classes(items, [row.classes[t] for row in rows], digests)
    return lines


def _first_items(digests: Sequence[bytes], items: Sequence[Item]) -> dict[bytes, Item]:
    """Map each digest to the first picture with it."""
    first: dict[bytes, Item] = {}
    for digest, item in zip(digests, items, strict=True):
        first.setdefault(digest, item)
    return first
