"""What counts as a picture in a folder: one set of rules for training, evaluation, prediction and uploads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from snow.data.decode import shown
from snow.data.formats import EXTENSIONS
from snow.errors import SnowError

JUNK = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "icon\r",
        "@eadir",
        "$recycle.bin",
        "#recycle",
        "lost+found",
    }
)
"""Left beside pictures by operating systems (in lower case): passed over in silence, as hidden files are."""


def is_junk(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden (`.DS_Store`, `._x.jpg`) or in `JUNK`."""
    return name.startswith(".") or name.lower() in JUNK


def is_junk_path(path: str) -> bool:
    """Tell whether any part of a relative path, as archives have them, is junk: `__MACOSX/cat/._x.jpg`."""
    return any(is_junk(part) for part in PurePath(path.replace("\\", "/")).parts if part != "..")


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """List folders and other entries, each in order of name, without junk.

    Raises:
        SnowError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise SnowError(f"{shown(folder)}: cannot be read ({error.strerror or error})") from None
    visible = [(folder / name, is_dir) for name, is_dir in names if not is_junk(name)]
    return [path for path, is_dir in visible if is_dir], [path for path, is_dir in visible if not is_dir]


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[Path, list[Path]]]:
    """Yield every folder from `folder` downwards with its files, without junk.

    Args:
        above: real paths of the folders that led here: a link back to one of them, or to a folder that holds one, is
            not followed.

    Raises:
        SnowError: a folder cannot be read.
    """
    above |= {os.path.realpath(folder)}
    folders, files = list_folder(folder)
    yield folder, files
    for path in folders:
        real = os.path.realpath(path)
        if not any(os.path.join(place, "").startswith(os.path.join(real, "")) for place in above):
            yield from walk(path, above)


def picture_files(folder: Path) -> list[Path]:
    """Find the pictures in a folder and below, by the rules of `snow.data`.

    Raises:
        SnowError: a folder cannot be read.
    """
    return [path for _, files in walk(folder) for path in files if is_picture(path)]
