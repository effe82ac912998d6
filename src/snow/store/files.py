"""Files and folders that are there whole or not at all, and reads that never mix two versions of them."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from snow.errors import SnowError

CALLS = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}
"""By system: the call, and what stands for the current folder in it."""

SWAP = 2


def exchange(one: Path, other: Path) -> bool:
    """False where the system or the file system has no such step: then nothing has changed."""
    call, here = CALLS.get(sys.platform, ("", 0))
    function = getattr(ctypes.CDLL(None), call, None) if call else None
    return function is not None and function(here, os.fsencode(one), here, os.fsencode(other), SWAP) == 0


ATTEMPTS = 1000
"""Times that a reader begins again while writers replace what it reads."""

T = TypeVar("T")


@contextmanager
def whole_folder(folder: Path, replace: bool = False) -> Generator[Path]:
    """A new folder beside `folder` that takes its place in one step when the block ends well, and vanishes otherwise.

    Raises:
        SnowError: `folder` exists and `replace` is False, or it cannot be written (a full disk, no permission).
    """
    new: Path | None = None
    try:
        if os.path.lexists(folder) and not replace:
            raise SnowError(f"{folder} is there already: remove it or choose another name")
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield new
        for path in (*new.rglob("*"), new):
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path)
        if os.path.lexists(folder):
            _swap(new, folder)
        else:
            new.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise SnowError(f"{folder} cannot be written: {error}") from error
    finally:
        if new is not None:
            discard(new)


@contextmanager
def whole_file(file: Path) -> Generator[Path]:
    """A new file beside `file` that takes its place in one step when the block ends well, and vanishes otherwise."""
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        yield new
        _sync(new)
        os.replace(new, file)
        _sync(file.parent)
    finally:
        new.unlink(missing_ok=True)


def consistent(place: Callable[[], Path], reader: Callable[[Path], T]) -> T:
    """What `reader` makes of a folder; asked again, with where the folder is then, if it was replaced meanwhile.

    Raises:
        SnowError: it is replaced all the time.
    """
    for _ in range(ATTEMPTS):
        folder = place()
        with _held(folder) as before:
            result: T | Exception
            try:
                result = reader(folder)
            except Exception as error:
                result = error
            if _identity(folder) == before and place() == folder:
                if isinstance(result, Exception):
                    raise result
                return result
    raise SnowError(f"{place()} cannot be read: it changes all the time")


def aside(folder: Path) -> Path:
    """Where the old version is for an instant while it is replaced, where two paths cannot change places in one step.

    While `folder` itself is missing, what is here counts.
    """
    return folder.with_name(f".{folder.name}.old")


def discard(path: Path) -> None:
    """Removes a folder with all that is in it, a file, or a link but not what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    if exchange(new, folder):
        return
    old = aside(folder)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    discard(old)


@contextmanager
def _held(folder: Path) -> Generator[tuple[int, int] | None]:
    """What tells this folder from all others, which no other one can get before the block ends; None: it is not there.

    A link is told from what it leads to.
    """
    handle: int | None = None
    with suppress(OSError):  # a link, nothing at all, or a system that does not open folders
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0))
    try:
        yield _identity(folder if handle is None else handle)
    finally:
        if handle is not None:
            os.close(handle)


def _identity(folder: Path | int) -> tuple[int, int] | None:
    try:
        found = os.fstat(folder) if isinstance(folder, int) else os.lstat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sync(path: Path) -> None:
    """Puts a file, or which names a folder has, on the disk; some systems do not open folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """Raises SnowError: the file is missing or is not a JSON object."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SnowError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise SnowError(f"{path} is not a JSON object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
