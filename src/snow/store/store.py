"""A folder of folders, each of which is written, replaced and removed in one step, and the names they may have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from snow.errors import DamagedError, SnowError, file_error
from snow.store.files import atomic_folder, backup_path, read_consistently, remove_path
from snow.store.lock import write_lock

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")

DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, with any extension."""


def check_name(name: str) -> str:
    """Check that a name is safe as a folder's name on every system, and return it. Raises SnowError otherwise."""
    if not NAME.fullmatch(name) or DEVICE.fullmatch(name):
        raise SnowError(
            f"{name!r} cannot name a task: use 1 to 64 letters, digits, '.', '_' or '-', start with a letter or "
            "digit, do not end with '.', and avoid names of devices such as 'con'"
        )
    return name


LOCK_TIMEOUT = 60
"""Seconds that a writer waits for another one."""

LEFTOVER = re.compile(rf"\.({NAME.pattern})\.(new|old|removed|[a-z0-9_]{{8}})")
"""Names of what a killed writer leaves beside the folders."""

T = TypeVar("T")

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""For a folder and each of its files: name, inode, size, times of modification and of change."""


class Store:
    """Named folders below `root`. Each is complete or missing, and holds no links.

    Readers never wait, and each reads one version of a folder. Writers take turns under a lock, which the system
    releases when its process dies. Each writer first removes what a killed one left behind.

    Args:
        root: the folder of the folders.
        lock: file outside of `root` that writers lock; it is never removed.
    """

    def __init__(self, root: Path, lock: Path) -> None:
        self.root, self.lock = root, lock

    def names(self) -> list[str]:
        """List the names of all folders and links, sorted; their content is not read."""
        names: set[str] = set()
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    leftover = LEFTOVER.fullmatch(entry.name)
                    if leftover and leftover[2] == "old":
                        names.add(leftover[1])
                    elif not entry.name.startswith(".") and (entry.is_dir() or entry.is_symlink()):
                        names.add(entry.name)
        except FileNotFoundError:
            return []
        return sorted(names)

    def has(self, name: str) -> bool:
        """Whether there is such a folder. Raises SnowError for an unsafe name."""
        return os.path.lexists(self._locate(name))

    def stamp(self, name: str) -> Stamp:
        """Return a value that changes when the folder or a file in it is replaced, changed or removed.

        Only file status is read, no content.
        """
        folder = self._locate(name)
        try:
            with os.scandir(folder) as entries:
                stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            stats.append(("", os.lstat(folder)))
        except OSError:  # the folder is missing, or is being removed
            return ()
        return tuple(
            sorted((file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for file, stat in stats)
        )

    def read(self, name: str, reader: Callable[[Path], T]) -> T:
        """Read one version of a folder by `reader`, which is called again if the folder was replaced meanwhile.

        Raises:
            SnowError: there is no such folder, it cannot be read, or it holds links; and what `reader` raises.
        """
        try:
            return read_consistently(lambda: self._locate(name), lambda folder: reader(_require_plain(folder)))
        except OSError as error:
            raise file_error(f"{self.root / name} cannot be read: {error}", error) from error

    @contextmanager
    def writing(self, name: str, replace: bool = False) -> Generator[Path]:
        """Yield an empty folder to fill, which gets the name in one step if the block succeeds.

        Raises:
            SnowError: the name is unsafe, or it exists and `replace` is False, or the folder cannot be written.
        """
        folder = self.root / check_name(name)
        with self.locked(), atomic_folder(folder, replace) as new:
            yield new

    def remove(self, name: str) -> bool:
        """Remove a folder in one step. False if there is none."""
        folder = self.root / check_name(name)
        with self.locked():
            if not os.path.lexists(folder):
                return False
            removed = folder.with_name(f".{name}.removed")
            try:
                folder.rename(removed)
            except OSError as error:
                raise SnowError(f"{folder} cannot be removed: {error}") from error
            remove_path(removed)
        return True

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the writers' lock during the block, after removing what a killed writer left.

        Raises:
            SnowError: another writer works for longer than `LOCK_TIMEOUT`, or the lock file cannot be written.
        """
        with write_lock(self.lock.parent, self.lock, LOCK_TIMEOUT):
            self._remove_leftovers()
            yield

    def _locate(self, name: str) -> Path:
        """Return where the valid version of a folder is now."""
        folder = self.root / check_name(name)
        backup = backup_path(folder)
        return folder if os.path.lexists(folder) or not os.path.lexists(backup) else backup

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(".*"):
            leftover = LEFTOVER.fullmatch(path.name)
            if leftover and leftover[2] == "old" and not os.path.lexists(self.root / leftover[1]):
                path.rename(self.root / leftover[1])
            elif leftover:
                remove_path(path)


def _require_plain(folder: Path) -> Path:
    """Return `folder`. Raises SnowError if it is a link or holds anything but plain files and folders."""
    for path in (folder.parent, folder, *([] if folder.is_symlink() else folder.iterdir())):
        if path.is_symlink():
            raise DamagedError(f"{path} is a link: a hub holds plain files")
        if not (path.is_file() or path.is_dir()):
            raise DamagedError(f"{path} is neither a file nor a folder")
    return folder
