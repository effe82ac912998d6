"""The files of a task: which they are, how they are copied, and what `config.json` must say.

Nothing here imports torch, so that a hub with many tasks is listed at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from snow.errors import DamagedError, MismatchError, file_error
from snow.store.files import read_json

CONFIG_FILE, MODEL_FILE, METRICS_FILE = "config.json", "model.safetensors", "metrics.json"

SELECTION_FILE = "choice.safetensors"
"""The selection history, which inference does not need."""

RECORD_FILE = "fingerprint.json"
"""The record of a task at the time it was added, see `snow.hub.task_record`."""

KNOWN_FILE = "known.safetensors"
"""Statistics of the training pictures, see `snow.inference.familiarity`; tasks of early versions have none."""

FILES = (CONFIG_FILE, METRICS_FILE, MODEL_FILE, SELECTION_FILE, KNOWN_FILE, RECORD_FILE)
"""All files that a task may have. None can execute code when loaded; other files in the folder are ignored."""

FORMAT = 3
"""Newest format that is read: that of tasks in few bits."""

KIND_FORMAT = 2
"""Format of tasks with other labels than plain classes."""

CLASS_FORMAT = 1
"""Format of tasks with plain classes, which version 0.1.0 reads too."""

KINDS = {"format": int, "task": str, "classes": list, "method": str, "config": dict, "source": dict, "training": dict}
"""Keys of `config.json` and their types."""

MAX_SIZE = 2**31
"""No number in the configuration of a method may be larger: it could not be the size of a tensor."""


def files_of(folder: Path) -> list[Path]:
    """List the files of a task that are there, sorted by name.

    Raises:
        SnowError: one of them is a link, or not a regular file.
    """
    present = sorted(folder / name for name in FILES if os.path.lexists(folder / name))
    for path in present:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DamagedError(f"{path} is not a regular file: a task holds no links and no folders")
    return present


def copy_files(folder: Path, new: Path) -> None:
    """Replace the files of the task in `new` by those in `folder`. Other files are not copied, no link is followed.

    Raises:
        SnowError: a file of the task is a link or cannot be read.
    """
    for path in files_of(new):
        path.unlink()
    for path in files_of(folder):
        shutil.copyfile(path, new / path.name, follow_symlinks=False)


def digest_of(path: Path) -> str:
    """Hash a regular file, without following a link.

    Raises:
        SnowError: it is missing, a link, or anything but a regular file.
    """
    with _opened(path) as file:
        return _hashed(hashlib.file_digest(file, "sha256"))


def digest_of_content(content: bytes | bytearray) -> str:
    """Hash the content of a file, as `digest_of` does."""
    return _hashed(hashlib.sha256(content))


def read_content(path: Path) -> bytearray:
    """Read a regular file into memory that may be written. A download of the Hugging Face Hub consists of links.

    Raises:
        SnowError: it is missing, or anything but a regular file.
    """
    with _opened(path, follow=True) as file:
        content = bytearray(os.fstat(file.fileno()).st_size)
        return content[: file.readinto(content)]


@contextmanager
def _opened(path: Path, follow: bool = False) -> Generator[BufferedReader]:
    """Open a regular file. Errors in the block are those of the file."""
    no_link = 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, os.O_RDONLY | no_link | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DamagedError(f"{path} is not a regular file")
            yield file
    except OSError as error:
        raise file_error(f"{path} cannot be read: {error.strerror or error}", error) from error


def _hashed(digest: hashlib._Hash) -> str:
    return f"sha256:{digest.hexdigest()}"


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a task, and check what `Artifact.load` uses of it.

    Raises:
        SnowError: the file is missing, damaged, or of a newer format.
    """
    path = folder / CONFIG_FILE
    config = read_json(path)
    if isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise MismatchError(
            f"{folder} has format {config['format']}, newer than this version reads ({FORMAT}): upgrade snow-cnn"
        )
    wrong = [key for key, kind in KINDS.items() if not isinstance(config.get(key), kind)]
    if not wrong and not isinstance(config["source"].get("fingerprint"), str):
        wrong = ["fingerprint"]
    if wrong:
        raise DamagedError(f"{path} is not that of a task: {', '.join(wrong)} is missing or damaged")
    if not isinstance(config.get("labels", {}), dict):
        raise DamagedError(f"{path} is not that of a task: labels is damaged")
    for label in config["classes"]:
        if not _is_text(label):
            raise DamagedError(f"{path} is not that of a task: the class name {ascii(label)[:80]} is not text in UTF-8")
    for value in _numbers(config["config"]):
        if abs(value) > MAX_SIZE:
            raise DamagedError(f"{path} is not that of a task: {value:.3g} is too large for a size")
    return config


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _numbers(value: object) -> Iterator[int | float]:
    """Iterate over all numbers in a JSON value."""
    if isinstance(value, int | float):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers(item)
