"""A folder of class folders, in parts (`train/CLASS/*.jpg`, `test/CLASS/*.jpg`) or not (`CLASS/*.jpg`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snow.data.decode import shown
from snow.data.labels import clean_name, require_text
from snow.data.listing import is_picture, list_folder, walk
from snow.data.rows import SPLITS, Listing, Opening, Row, Split, part_name
from snow.errors import SnowError


@dataclass(frozen=True)
class Part:
    """A folder that holds class folders."""

    folder: Path
    classes: Sequence[Path]
    split: Split | None


def read_folder(root: Path, task: str, opening: Opening) -> Listing:
    """List the pictures of class folders, and deeper ones, as one task; its classes are the folders' names, sorted.

    Raises:
        SnowError: as in the rules of `snow.data`.
    """
    parts, warnings = _parts(root, opening)
    classes: list[str] = []
    rows: list[Row] = []
    for part in parts:
        loose = _count_loose(part.folder)
        if loose:
            warnings.append(f"ignored in {shown(part.folder)}: {loose} pictures that are in no class folder")
        named = _class_names(part, warnings)
        if part.split != "test":
            classes = sorted(set(named.values()))
            if opening.for_training:
                _require_two(part, classes, loose)
        for path, name in named.items():
            rows += [Row(picture, (name,), part.split) for picture in _pictures(path, warnings)]
    return Listing((task,), (tuple(classes),), rows, warnings, shown(root))


def _parts(root: Path, opening: Opening) -> tuple[list[Part], list[str]]:
    """Find the folders that hold class folders, and warn of each folder that is not used.

    A folder with the name of a part (`part_name`) is one if it holds class folders: `car/`, `plane/` and `train/` with
    pictures in each are three classes.
    """
    folders = list_folder(root)[0]
    inside = {path: list_folder(path)[0] for path in folders if part_name(path.name)}
    order = list(SPLITS)
    ranked = sorted(inside, key=lambda path: order.index(part_name(path.name) or ""))
    plain = [path for path in folders if path not in inside]
    train = next((path for path in ranked if _split(path) == "train" and _holds_classes(inside[path], plain)), None)
    test = next((path for path in ranked if _split(path) == "test" and inside[path]), None)
    if train is None and plain:
        return _without_train(root, folders, plain, test, inside)
    if train is None:
        train = next((path for path in ranked if _split(path) == "train"), None)
    if train is None:
        if test is not None and not opening.for_training:
            return [Part(test, inside[test], "test")], []
        if folders:
            raise SnowError(f"{shown(root)}: there is {shown(folders[0].name)}/ but no train/")
        return [Part(root, [], None)], []
    used = [path for path in (train, test) if path is not None]
    names = " and ".join(f"{shown(path.name)}/" for path in used)
    warnings = [_ignored(path, names) for path in folders if path not in used]
    if test is not None:
        return [Part(train, inside[train], "train"), Part(test, inside[test], "test")], warnings
    if opening.for_training:
        held_out = f"{opening.test_fraction:.0%} of {names} is held out for testing (seed {opening.seed})"
        warnings.append(f"no test/ or val/ in {shown(root)}: {held_out}")
    return [Part(train, inside[train], None)], warnings


def _split(path: Path) -> Split:
    return SPLITS[part_name(path.name) or ""]


def _holds_classes(inside: Sequence[Path], plain: Sequence[Path]) -> bool:
    """Tell whether these are class folders of a part; a single one beside other folders belongs to a class."""
    return len(inside) > 1 or (len(inside) == 1 and not plain)


def _without_train(
    root: Path, folders: list[Path], plain: list[Path], test: Path | None, inside: dict[Path, list[Path]]
) -> tuple[list[Part], list[str]]:
    """Take all folders for classes, except a `test/` whose folders have the names of those beside it."""
    names = {clean_name(path.name) for path in plain}
    if test is None or not {clean_name(path.name) for path in inside[test]} <= names:
        return [Part(root, folders, None)], []
    line = f"{shown(test)} is the test part, since its folders have the names of those beside it"
    rest = [path for path in folders if path != test and not (path in inside and inside[path])]
    others = [f"ignored {shown(path)}: used is {shown(test.name)}/" for path in folders if path not in (test, *rest)]
    return [Part(root, rest, "train"), Part(test, inside[test], "test")], [line, *others]


def _ignored(path: Path, used: str) -> str:
    folders, files = list_folder(path)
    pictures = sum(map(is_picture, files))
    if part_name(path.name) and not folders and pictures:
        return f"ignored {shown(path)}: its {pictures} pictures are in no class folder, so they have no labels"
    return f"ignored {shown(path)}: used are {used}"


def _count_loose(folder: Path) -> int:
    return sum(map(is_picture, list_folder(folder)[1]))


def _class_names(part: Part, warnings: list[str]) -> dict[Path, str]:
    """Name the class of each class folder; names that differ in spaces or Unicode form only are one class."""
    named = {path: clean_name(require_text(path.name, f"{shown(part.folder)}: class folder")) for path in part.classes}
    first: dict[str, Path] = {}
    for path, name in named.items():
        other = first.setdefault(name, path)
        if other != path:
            warnings.append(f"{shown(path)} and {shown(other)} have the same name but for spaces or Unicode: one class")
    return named


def _require_two(part: Part, classes: Sequence[str], loose: int) -> None:
    if len(classes) < 2:
        number = f"there is only {classes[0]!r}" if classes else "there is none"
        pictures = f"; its {loose} pictures are in no class folder and have no labels" if loose else ""
        deeper = [path for path in part.classes if len(list_folder(path)[0]) > 1]  # an archive in a folder of its own
        hint = f": if the classes are the folders in {shown(deeper[0])}, use that folder" if deeper else ""
        raise SnowError(f"{shown(part.folder)}: at least two class folders are needed, and {number}{pictures}{hint}")


def _pictures(folder: Path, warnings: list[str]) -> list[Path]:
    """Find the pictures in `folder` and below, and warn of every folder with other files."""
    pictures: list[Path] = []
    for place, files in walk(folder):
        others = [path.name for path in files if not is_picture(path)]
        if others:
            line = f"{len(others)} files that are no pictures, as {shown(others[0])}"
            warnings.append(f"ignored in {shown(place)}: {line}")
        pictures += [path for path in files if is_picture(path)]
    return pictures
