"""From a folder with a published set to a data set, or a line on what is missing and where to get it."""

from __future__ import annotations

import os
from pathlib import Path

from snow.data.decode import shown
from snow.data.published.published import Published
from snow.data.rows import Opening, assemble
from snow.data.task import Dataset, Task
from snow.errors import SnowError

DEPTH = 2
"""A set lies in the folder that was named, or at most so far below: torchvision has `dtd/dtd/`."""


def found_in(known: Published, folder: Path) -> Path | None:
    """Where below `folder`, or there itself, the set is, be it only in part; a whole one first."""
    level, places = [folder], list[Path]()
    for _ in range(DEPTH + 1):
        places += [place for place in level if known.is_at(place)]
        level = [child for place in level for child in _folders(place)]
    return min(places, key=lambda place: len(known.missing(place)), default=None)


def open_published(known: Published, folder: Path, task: str, opening: Opening) -> Dataset:
    """One task with the set's own classes and official parts.

    Raises:
        SnowError: the set is not there, or a part of it is missing; the line says which, and where to get it.
    """
    place = found_in(known, folder)
    if place is None:
        there = "" if folder.is_dir() else ": there is no such folder"
        raise SnowError(
            f"{known.name}: not found in {shown(folder)}{there}; {known.where_to_get} and unpack to {known.folder}/"
        )
    source = f"{known.name} in {shown(place)}"
    again = f"{known.where_to_get} and unpack again"
    if missing := known.missing(place):
        raise SnowError(f"{source} is not complete: {', '.join(missing)} missing; {again}")
    classes, rows = known.read(place)
    absent = [row.item for row in rows if isinstance(row.item, Path) and not row.item.exists()]
    if absent:
        first = shown(absent[0].relative_to(place))
        raise SnowError(
            f"{source} is not complete: {len(absent)} of {len(rows)} pictures are missing, as {first}; {again}"
        )
    train = sum(row.split == "train" for row in rows)
    sizes = (len(classes), train, len(rows) - train)
    warnings = []
    if not known.is_whole(*sizes):
        has, wanted = _sizes(*sizes), _sizes(known.classes, known.train, known.test)
        warnings.append(f"{source} has {has}; the paper's Table 3 has {wanted}")
    return assemble([Task(task, classes)], rows, warnings, opening, source)


def _sizes(classes: int, train: int, test: int) -> str:
    return f"{classes} classes with {train:,}/{test:,} pictures"


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
