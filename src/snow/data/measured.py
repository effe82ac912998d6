"""Which labelled pictures a learned task is measured on, and what the figure then says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from snow.data.decode import shown
from snow.data.labels import clean_name, is_truth, whole_numbers
from snow.data.open import read_listing
from snow.data.pictures import Inspection, Item, Pictures, Progress, inspect
from snow.data.rows import Listing, Opening, Row
from snow.data.split import SplitRecord
from snow.data.table import NO_LABEL
from snow.data.task import Dataset, Task
from snow.errors import MismatchError, SnowError
from snow.kinds import ClassKind

Part = Literal["test", "train", "all"]

Basis = Literal["held-out", "test", "train", "all"]
"""What is measured: what training held out, the data's own test or training part, or all of it."""


@dataclass(frozen=True)
class Measured:
    """Pictures to measure a task on, with the numbers of its labels.

    Attributes:
        task: the task, with the labels of these pictures.
        basis: which they are.
        line: the same in words.
        warnings: what was left out, and what makes the figure doubtful.
    """

    task: Task
    pictures: Pictures
    basis: Basis
    line: str
    warnings: tuple[str, ...]


def open_measured(
    spec: str | os.PathLike[str],
    task: Task,
    record: SplitRecord | None,
    part: Part = "test",
    *,
    labels: Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    held_out_before: Callable[[Dataset], Dataset | None] | None = None,
    inspections: Inspections | None = None,
) -> Measured:
    """Open labelled pictures to measure a task on.

    Data with a test part is measured there. Data without one is measured on the pictures that training held out, which
    are known by their content; if it has none of them, on all of it.

    Args:
        record: which pictures training held out and learned; None where that was not recorded.
        part: another part of the data.
        labels: at most one label column of a table.
        root: as for `open_dataset`.
        progress: called with (pictures checked, pictures there are).
        held_out_before: for a task without a record: from all pictures to what training learned and held out, or None
            if this is not the data that it was trained on.
        inspections: what was found out about pictures for other tasks, to be used and added to.

    Raises:
        MismatchError: a class that the task does not have.
        SnowError: as `open_dataset`; no readable picture.
    """
    folder, named = None if root is None else Path(root), {task.name: task.kind.spec}
    listing = read_listing(spec, task.name, labels, folder, Opening(for_training=False), named)
    warnings = _without_labels(listing.warnings)
    rows, looks = _readable(listing, progress, warnings, {} if inspections is None else inspections)
    task, numbers, lacking = _numbered(rows, task, listing.source)
    if lacking:
        warnings.append(f"{listing.source}: no picture of {_few(lacking)}")
    if not rows:
        raise SnowError(f"{listing.source}: there is no readable picture with a label")
    everything = Pictures([row.item for row in rows], torch.tensor(numbers, dtype=torch.int64))
    if rows[0].split is not None:
        indices, basis, line = _by_part(rows, part, listing.source)
    elif record is not None:
        indices, basis, line = _by_record(looks, record, part, listing.source)
    else:
        indices, basis, line, doubts = _by_guess(everything, task, part, listing.source, held_out_before)
        warnings += doubts
    if record is not None and part != "train":
        warnings += _learned(rows, looks, indices, record)
    return Measured(task, everything.subset(indices), basis, line, tuple(warnings))


Choice = tuple[list[int], Basis, str]


Inspections = dict[Item, Inspection]
"""What was found out about pictures."""


def merge_measured(parts: Sequence[Measured]) -> Pictures:
    """Merge the pictures of several tasks, so that one pass measures all: T of them -> pictures with labels (n, T)."""
    places: dict[Item, int] = {}
    for part in parts:
        for item in part.pictures.items:
            places.setdefault(item, len(places))
    labels = torch.full((len(places), len(parts)), -1, dtype=torch.int64)
    for column, part in enumerate(parts):
        for item, label in zip(part.pictures.items, part.pictures.labels[:, 0].tolist(), strict=True):
            labels[places[item], column] = label
    return Pictures(list(places), labels)


def _without_labels(warnings: Sequence[str]) -> list[str]:
    """Put the rows without a label of this task, which are no fault of a table with several, into one line."""
    lines = [line for line in warnings if line.endswith(NO_LABEL)]
    others = [line for line in warnings if not line.endswith(NO_LABEL)]
    if len(lines) > 1:
        lines = [
            f"{len(lines)} rows have no label, the first is {lines[0].removeprefix('skipped ').partition(': ')[0]}"
        ]
    return lines + others


def _readable(
    listing: Listing, progress: Progress | None, warnings: list[str], inspections: Inspections
) -> tuple[list[Row], list[Inspection]]:
    """Select the rows with a label and a readable picture."""
    rows = [row for row in listing.rows if row.classes[0] is not None]
    new = [item for row in rows if (item := row.item) not in inspections]
    inspections.update(zip(new, inspect(new, progress), strict=True))
    looks = [inspections[row.item] for row in rows]
    warnings += [f"skipped {look.fault}" for look in looks if look.fault]
    good = [(row, look) for row, look in zip(rows, looks, strict=True) if not look.fault]
    return [row for row, _ in good], [look for _, look in good]


def _numbered(rows: Sequence[Row], task: Task, source: str) -> tuple[Task, list[int], list[str]]:
    """Number the label of each row, for the task with these labels, and name what no picture has."""
    if isinstance(task.kind, ClassKind):
        return task, *_class_numbers(rows, task, source)
    present = [str(row.classes[0]) for row in rows]
    unknown = task.kind.unknown(present)
    if unknown:
        raise MismatchError(f"{source}: its labels are not those of task {task.name}: it has {_few(unknown)}")
    labels = tuple(sorted(set(present)))
    place = {label: number for number, label in enumerate(labels)}
    lacking = task.kind.absent(present)
    return replace(task, labels=labels), [place[label] for label in present], lacking


def _class_numbers(rows: Sequence[Row], task: Task, source: str) -> tuple[list[int], list[str]]:
    """Number each row's class as the task does, and name the classes without a picture. Names are normalised first."""
    truths = {name.lower(): number for number, name in enumerate(task.classes) if is_truth(name)}
    known = truths if len(truths) == 2 else {}
    for spelled in (whole_numbers(task.classes), {name: clean_name(name) for name in task.classes}):
        known |= {spelled[name]: number for number, name in enumerate(task.classes) if name in spelled}
    known |= {name: number for number, name in enumerate(task.classes)}
    present = [str(row.classes[0]) for row in rows]
    present = [name.lower() if name not in known and is_truth(name) else name for name in present]
    names = Counter(present)
    unknown = sorted(name for name in names if name not in known)
    lacking = [name for number, name in enumerate(task.classes) if number not in {known.get(other) for other in names}]
    if unknown:
        also = f"it lacks {_few(lacking)} and " if lacking else ""
        raise MismatchError(f"{source}: its classes are not those of task {task.name}: {also}it has {_few(unknown)}")
    return [known[name] for name in present], lacking


def _by_part(rows: Sequence[Row], part: Part, source: str) -> Choice:
    indices = [index for index, row in enumerate(rows) if part in ("all", row.split)]
    if not indices:
        raise SnowError(f"{source}: there is no readable picture in the part {part!r}")
    words = {"test": "the test part", "train": "the training part", "all": "all parts"}[part]
    return indices, part, f"{words} of the data, {_count(indices)}"


def _by_record(looks: Sequence[Inspection], record: SplitRecord, part: Part, source: str) -> Choice:
    everything = list(range(len(looks)))
    held_out = [index for index in everything if record.was_held_out(looks[index].digest)]
    if part == "all" or (part == "test" and not held_out):
        none = "" if part == "all" else ": it has no test part, and training held out none of it"
        return everything, "all", f"all of the data, {_count(everything)}{none}"
    if part == "train":
        rest = sorted(set(everything) - set(held_out))
        if not held_out or not rest:
            raise SnowError(f"{source}: it has no training part, and is not what the task was trained on: use all")
        return rest, "train", f"the data without what training held out, {_count(rest)}"
    left = len(everything) - len(held_out)
    rest = f"; {left} others are not measured" if left else ""
    had = len(record.held_out)
    gone = f" of {had}" if len({looks[index].digest for index in held_out}) < had else ""
    return held_out, "held-out", f"what training held out, {len(held_out)}{gone} pictures{rest}"


def _by_guess(
    pictures: Pictures,
    task: Task,
    part: Part,
    source: str,
    held_out_before: Callable[[Dataset], Dataset | None] | None,
) -> tuple[list[int], Basis, str, list[str]]:
    """Choose for a task without a record: draw its split again, if this is the data that it was drawn from."""
    everything = list(range(len(pictures)))
    if part == "all":
        return everything, "all", f"all of the data, {_count(everything)}", []
    before = None if held_out_before is None else held_out_before(Dataset((task,), pictures, pictures.subset([])))
    if before is None and part == "train":
        raise SnowError(f"{source}: it has no training part, and task {task.name} has no record of one: use all")
    if before is None:
        doubt = f"task {task.name} has no record of what it held out: pictures that it learned may be among these"
        return everything, "all", f"all of the data, {_count(everything)}: it has no test part", [doubt]
    chosen = set(before.test.items if part == "test" else before.train.items)
    indices = [index for index in everything if pictures.items[index] in chosen]
    words = "what training held out" if part == "test" else "the data without what training held out"
    return indices, "held-out" if part == "test" else "train", f"{words}, {_count(indices)}", []


def _learned(
    rows: Sequence[Row], looks: Sequence[Inspection], indices: Sequence[int], record: SplitRecord
) -> list[str]:
    learned = [index for index in indices if record.was_trained(looks[index].digest)]
    if not learned:
        return []
    count = f"{'' if record.all_trained else 'at least '}{len(learned)}"
    example = shown(str(rows[learned[0]].item))
    return [f"{count} of the {len(indices)} pictures measured are training pictures of the task, such as {example}"]


def _count(indices: Sequence[int]) -> str:
    return f"{len(indices)} pictures"


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
