"""Which pictures are there to reproduce the paper with: its own five sets, and real sets with splits of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snow.data import Dataset
from snow.data.published import PUBLISHED, found_in
from snow.errors import SnowError
from snow.experiments.reproduce.paper import SETS

OWN = "-own-split"
"""At the end of a key: the parts are not the paper's."""

OWN_SPLITS: dict[str, str | None] = {"dtd10": "DTD", "cars196": "Car", "ants_bees": None}
"""Image folders, and the paper's set that they are made of: parts of it, or other splits."""


@dataclass(frozen=True)
class Found:
    """A set that is there.

    Attributes:
        key: what results call it; ends in `OWN` where parts are not the paper's.
        column: what the paper calls it, or what it is made of.
        path: where.
    """

    key: str
    column: str | None
    path: Path


@dataclass(frozen=True)
class Opened:
    """A set with its pictures."""

    found: Found
    dataset: Dataset

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Classes, training and test pictures."""
        return len(self.dataset.tasks[0].classes), len(self.dataset.train), len(self.dataset.test)

    def to_dict(self) -> dict[str, Any]:
        """What results keep of it."""
        known = PUBLISHED.get(self.found.key)
        return {
            "set": self.found.key,
            "paper": self.found.column,
            "classes": self.sizes[0],
            "train_images": self.sizes[1],
            "test_images": self.sizes[2],
            "as_in_table_3": known is not None and known.is_whole(*self.sizes),
        }


def title(entry: Mapping[str, Any]) -> str:
    """Of a set as results keep it: the paper's name only where sizes are those of Table 3."""
    if entry["as_in_table_3"]:
        return entry["paper"]
    return entry["set"] if entry["set"].endswith(OWN) else f"{entry['set']} (in part)"


def find(root: Path | None, wanted: Sequence[str] = ()) -> tuple[list[Found], list[str]]:
    """The sets below `root`, and a line for each of the paper's that is wanted and not there, or not whole.

    Args:
        wanted: keys; by default all.

    Raises:
        SnowError: there is no such folder, a key is unknown, or that set is not there.
    """
    found: dict[str, Found] = {}
    missing: dict[str, str] = {}
    if root is not None and not root.is_dir():
        raise SnowError(f"{root}: there is no such folder")
    for known in PUBLISHED.values():
        place = None if root is None else found_in(known, root)
        lacks = [] if place is None else known.missing(place)
        if place is None:
            missing[known.name] = f"{known.name} is not there: {known.where_to_get}"
        elif lacks:
            missing[known.name] = f"{known.name} in {place} lacks {', '.join(lacks)}: {known.where_to_get}"
        else:
            found[known.name] = Found(known.name, known.column, place)
    for name, column in OWN_SPLITS.items():
        key = f"{name}{OWN}"
        if root is not None and (root / name / "train").is_dir():
            found[key] = Found(key, column, root / name)
        else:
            missing[key] = f"{key} is not there: it is a folder {name}/train/CLASS/ and {name}/test/CLASS/"
    for key in wanted:
        if key in missing:
            raise SnowError(missing[key])
        if key not in found:
            raise SnowError(f"no set {key!r}: there are {', '.join([*found, *missing])}")
    chosen = [one for key, one in found.items() if not wanted or key in wanted]
    return chosen, [line for key, line in missing.items() if key in PUBLISHED and not wanted]


def column_of(entry: Mapping[str, Any]) -> int | None:
    """The place in the paper's tables of a set as results keep it."""
    return SETS.index(entry["paper"]) if entry["paper"] else None
