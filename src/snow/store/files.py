"""Atomic writes of files and folders, and reads that never mix two versions of a folder."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from snow.errors import DamagedError, MismatchError, SnowError, file_error

T = TypeVar("T")

ATTEMPTS = 1000
"""How often a reader starts again because a writer replaced the folder."""

LFS_START = b"version https://git-lfs"
"""Start of the small file that a clone without Git LFS has in the place of a large one."""

EXCHANGE_CALLS = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}
"""System -> name of its call that exchanges two paths, and the value of AT_FDCWD for it."""

EXCHANGE_FLAG = 2
"""RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS."""


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step. False, with nothing changed, if the system or the file system cannot do it."""
    call, at_cwd = EXCHANGE_CALLS.get(sys.platform, ("", 0))
    function = getattr(ctypes.CDLL(None), call, None) if call else None
    if function is None:
        return False
    return function(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), EXCHANGE_FLAG) == 0


@contextmanager
def atomic_folder(folder: Path, replace: bool = False) -> Generator[Path]:
    """Yield a temporary folder that becomes `folder` in one step if the block succeeds, and is removed otherwise.

    Folder and files get the permissions that the umask gives new ones, whatever wrote them.

    Raises:
        SnowError: `folder` exists and `replace` is False, or it cannot be written (a full disk, no permission).
    """
    new: Path | None = None
    try:
        if os.path.lexists(folder) and not replace:
            raise MismatchError(f"{folder} is there already: remove it or choose another name")
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        new.mkdir()
        mode = _mode(new)
        yield new
        for path in (*new.rglob("*"), new):
            _set_mode(path, mode if path.is_dir() else mode & 0o666)
            _sync(path)
        if os.path.lexists(folder):
            _replace(new, folder)
        else:
            new.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise file_error(f"{folder} cannot be written: {error}", error) from error
    finally:
        if new is not None:
            remove_path(new)


@contextmanager
def atomic_file(file: Path) -> Generator[Path]:
    """Yield a temporary file that becomes `file` in one step if the block succeeds, and is removed otherwise.

    It gets the permissions that the umask gives new files, whatever writes it: safetensors makes files private.
    """
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        new.unlink(missing_ok=True)
        new.touch()
        mode = _mode(new)
        yield new
        _set_mode(new, mode)
        _sync(new)
        os.replace(new, file)
        _sync(file.parent)
    finally:
        new.unlink(missing_ok=True)


def read_consistently(locate: Callable[[], Path], reader: Callable[[Path], T]) -> T:
    """Read one version of a folder: call `reader` again as long as the folder is replaced while it reads.

    Args:
        locate: returns where the folder is now.
        reader: reads the folder; what it raises counts only if the folder was not replaced.

    Raises:
        SnowError: the folder was replaced every time.
    """
    for _ in range(ATTEMPTS):
        folder = locate()
        with _open_identity(folder) as before:
            result: T | Exception
            try:
                result = reader(folder)
            except Exception as error:
                result = error
            if _identity(folder) == before and locate() == folder:
                if isinstance(result, Exception):
                    raise result
                return result
    raise SnowError(f"{locate()} cannot be read: it changes all the time")


def backup_path(folder: Path) -> Path:
    """Return where the old version of a folder is for an instant while it is replaced, if `exchange` is impossible.

    As long as `folder` itself is missing, the version at this path is the valid one.
    """
    return folder.with_name(f".{folder.name}.old")


def remove_path(path: Path) -> None:
    """Remove a folder with its content, a file, or a link without its target."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    """Set permissions where they differ. A file system without permissions refuses even those that it shows."""
    if _mode(path) != mode:
        path.chmod(mode)


def _replace(new: Path, folder: Path) -> None:
    """Put `new` in place of `folder`, in one step where the system can."""
    if exchange(new, folder):
        return
    old = backup_path(folder)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    remove_path(old)


@contextmanager
def _open_identity(folder: Path) -> Generator[tuple[int, int] | None]:
    """Yield the device and inode of a folder, kept open so that no other folder can get them; None if it is missing.

    A link has an identity of its own, not that of its target.
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
        status = os.fstat(folder) if isinstance(folder, int) else os.lstat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk. Windows cannot open folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises SnowError if the file is missing or holds something else."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise file_error(f"{path} cannot be read: {error.strerror or error}", error) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise DamagedError(f"{path} is not a JSON object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with an indent of 2. Surrogates, which stand for bytes that are not UTF-8, are escaped."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(values, file, indent=2, ensure_ascii=False)  # piece by piece: never millions of small strings at once
        file.write("\n")


def require_content(path: Path) -> None:
    """Raises DamagedError: a file is a Git LFS pointer in the place of its content."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(LFS_START)) == LFS_START:
            raise DamagedError(f"{path} is a Git LFS pointer in place of the file: run git lfs pull")
