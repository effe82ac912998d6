"""What a data set is as its authors distribute it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from snow.data.decode import shown
from snow.data.rows import Listing, Row
from snow.errors import SnowError


class Listed(NamedTuple):
    """What the lists of a set say: its classes in its own order, and a row for each picture with its official part."""

    classes: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True)
class Published:
    """One of the paper's sets.

    Attributes:
        name: how commands call it.
        column: how the paper's tables call it.
        title: what it is.
        folder: what its archive unpacks to.
        home: the page of its authors.
        archives: what to get from there, and unpack side by side.
        marks: files, any of which tells the set by its structure.
        needs: files and folders that must be there; where several would do, with ` or ` between.
        classes: how many (Table 3).
        train: official training pictures (Table 3).
        test: official test pictures (Table 3).
        read: from its folder to what its lists say.
    """

    name: str
    column: str
    title: str
    folder: str
    home: str
    archives: tuple[str, ...]
    marks: tuple[str, ...]
    needs: tuple[str, ...]
    classes: int
    train: int
    test: int
    read: Callable[[Path], Listed]

    @property
    def where_to_get(self) -> str:
        return f"get {', '.join(self.archives)} from {self.home}"

    def is_at(self, folder: Path) -> bool:
        """Whether `folder` has its structure, be it only in part."""
        return any((folder / mark).exists() for mark in self.marks)

    def missing(self, folder: Path) -> list[str]:
        """What `folder` lacks of what the set consists of."""
        return [need for need in self.needs if not any((folder / name).exists() for name in need.split(" or "))]

    def is_whole(self, classes: int, train: int, test: int) -> bool:
        """Whether these are the sizes of Table 3."""
        return (classes, train, test) == (self.classes, self.train, self.test)


def lines(file: Path) -> list[str]:
    """Read the lines of a list that are not empty, stripped.

    Raises:
        SnowError: it cannot be read, or there are none.
    """
    try:
        texts = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise SnowError(f"{shown(file)}: the text is not UTF-8: the file is damaged") from None
    except OSError as error:
        raise SnowError(f"{shown(file)}: cannot be read ({error.strerror or error})") from None
    if not texts:
        raise SnowError(f"{shown(file)}: the list is empty: the file is damaged")
    return texts


def pairs(file: Path) -> dict[str, str]:
    """Read a list of `KEY VALUE` lines, in order.

    Raises:
        SnowError: a line without a value; and as `lines`.
    """
    values = {}
    for number, line in enumerate(lines(file), 1):
        key, _, value = line.partition(" ")
        if not value:
            raise SnowError(f"{shown(file)}, line {number}: {shown(line)!r} is not a key and a value")
        values[key] = value
    return values


def classes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sort the classes of the rows."""
    return tuple(sorted({name for row in rows for name in row.classes if name}))


DEPTH = 2
"""A set lies in the folder that was named, or at most so far below: torchvision has `dtd/dtd/`."""


def found_in(known: Published, folder: Path) -> Path | None:
    """Find the folder of a set, at or below `folder`; a complete one first, then one with parts missing."""
    level, places = [folder], list[Path]()
    for _ in range(DEPTH + 1):
        places += [place for place in level if known.is_at(place)]
        level = [child for place in level for child in _folders(place)]
    return min(places, key=lambda place: len(known.missing(place)), default=None)


def read_published(known: Published, folder: Path, task: str) -> Listing:
    """Read a set as one task with its own classes and official parts.

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
    return Listing((task,), (classes,), rows, warnings, source)


def _sizes(classes: int, train: int, test: int) -> str:
    return f"{classes} classes with {train:,}/{test:,} pictures"


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
