"""The datasets an experiment can use: the paper's five, and three with splits of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snow.data import Dataset
from snow.data.published import PUBLISHED, found_in
from snow.errors import SnowError
from snow.experiments.reproduce.class_parts import ClassPart, parse_part
from snow.experiments.reproduce.paper import SETS

OWN = "-own-split"
"""In a key: training and test images are not the paper's."""

OWN_SPLITS: dict[str, str | None] = {"dtd10": "DTD", "cars196": "Car", "ants_bees": None}
"""Image folder -> the paper's dataset that it is a subset or another split of."""


@dataclass(frozen=True)
class SetLocation:
    """A dataset on disk.

    Attributes:
        key: its name in results; has `OWN` in it if the split is not the paper's.
        column: the paper's name of it, or of the dataset that it was made from; None if neither.
        path: its folder.
        part: the part of its classes that is used; None for all.
    """

    key: str
    column: str | None
    path: Path
    part: ClassPart | None = None


@dataclass(frozen=True)
class OpenedSet:
    """A dataset that was opened."""

    location: SetLocation
    dataset: Dataset

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Count classes, training images and test images."""
        return len(self.dataset.tasks[0].classes), len(self.dataset.train), len(self.dataset.test)

    def to_dict(self) -> dict[str, Any]:
        """Describe the dataset for results."""
        known = PUBLISHED.get(self.location.key)
        return {
            "set": self.location.key,
            "paper": self.location.column,
            "classes": self.sizes[0],
            "train_images": self.sizes[1],
            "test_images": self.sizes[2],
            "as_in_table_3": known is not None and known.is_whole(*self.sizes),
        }


def title(entry: Mapping[str, Any]) -> str:
    """Name a dataset from its description: the paper's name only if its sizes are those of Table 3."""
    if entry["as_in_table_3"]:
        return entry["paper"]
    return entry["set"] if OWN in entry["set"] else f"{entry['set']} (in part)"


def find(root: Path | None, wanted: Sequence[str] = ()) -> tuple[list[SetLocation], list[str]]:
    """Find datasets below `root`; also return one line for each of the paper's that is missing or incomplete.

    Args:
        wanted: keys of the datasets to find, or of parts of their classes such as `cars196-own-split-1of3`; by default
            all datasets, and then missing ones are no error.

    Raises:
        SnowError: `root` is no folder, or a wanted dataset is unknown or missing.
    """
    found: dict[str, SetLocation] = {}
    missing: dict[str, str] = {}
    if root is not None and not root.is_dir():
        raise SnowError(f"there is no folder {root}")
    for known in PUBLISHED.values():
        folder = None if root is None else found_in(known, root)
        lacks = [] if folder is None else known.missing(folder)
        if folder is None:
            missing[known.name] = f"{known.name} was not found: {known.where_to_get}"
        elif lacks:
            missing[known.name] = f"{known.name} in {folder} lacks {', '.join(lacks)}: {known.where_to_get}"
        else:
            found[known.name] = SetLocation(known.name, known.column, folder)
    for name, column in OWN_SPLITS.items():
        key = f"{name}{OWN}"
        if root is not None and (root / name / "train").is_dir():
            found[key] = SetLocation(key, column, root / name)
        else:
            missing[key] = f"{key} was not found: it is a folder with {name}/train/CLASS/ and {name}/test/CLASS/"
    located = [] if wanted else list(found.values())
    for wish in dict.fromkeys(wanted):
        key, part = (wish, None) if wish in found else parse_part(wish) or (wish, None)
        if key in missing:
            raise SnowError(missing[key])
        if key not in found:
            raise SnowError(f"unknown dataset {wish!r}: there are {', '.join([*found, *missing])}")
        located.append(replace(found[key], key=wish, part=part))
    order = [location.path for location in found.values()]
    located.sort(key=lambda location: (order.index(location.path), location.part or ()))
    return located, [line for key, line in missing.items() if key in PUBLISHED and not wanted]


def column_of(entry: Mapping[str, Any]) -> int | None:
    """Index of a described dataset in the columns of the paper's tables."""
    return SETS.index(entry["paper"]) if entry["paper"] else None
