"""What a task may be called: nothing that could lead anywhere else, on any system."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from snow.errors import SnowError
from snow.store.files import aside, atomic_folder, discard, read_consistently
from snow.store.lock import only_writer

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")

DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""What Windows takes for a device, with any extension."""


def check_name(name: str) -> str:
    """Raises SnowError for a name that is not safe as a folder's name everywhere."""
    if not NAME.fullmatch(name) or DEVICE.fullmatch(name):
        raise SnowError(
            f"{name!r} cannot name a task: use 1 to 64 letters, digits, '.', '_' or '-', no leading sign, no '.' at "
            "the end, and no name of a device such as 'con'"
        )
    return name


PATIENCE = 60
"""Seconds that a writer waits for another one."""

LEFTOVER = re.compile(rf"\.({NAME.pattern})\.(new|old|removed|[a-z0-9_]{{8}})")
"""What a killed writer leaves beside the folders."""

T = TypeVar("T")

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Of a folder and its files: name, number, size, and when it was changed."""


class Store:
    """Any number of folders, each there whole or not at all, and free of links: no name leads anywhere else.

    Readers never wait, and each sees one version of a folder. Writers take turns under a lock that the system lifts
    when its process dies, and each clears away first what a killed one has left.

    Args:
        root: the folder of the folders.
        lock: a file outside of `root` that writers lock; it is never removed.
    """

    def __init__(self, root: Path, lock: Path) -> None:
        self.root, self.lock = root, lock

    def names(self) -> list[str]:
        """Of all folders and links, sorted, whatever is in them."""
        found: set[str] = set()
        try:
            for entry in os.scandir(self.root):
                left = LEFTOVER.fullmatch(entry.name)
                if left and left[2] == "old":
                    found.add(left[1])
                elif not entry.name.startswith(".") and (entry.is_dir() or entry.is_symlink()):
                    found.add(entry.name)
        except FileNotFoundError:
            return []
        return sorted(found)

    def has(self, name: str) -> bool:
        """Raises SnowError for an unsafe name."""
        return os.path.lexists(self._place(name))

    def stamp(self, name: str) -> Stamp:
        """Differs once the folder, or a file in it, is replaced, changed or removed; nothing is read for it."""
        folder = self._place(name)
        try:
            found = [
                ("", os.lstat(folder)),
                *((one.name, one.stat(follow_symlinks=False)) for one in os.scandir(folder)),
            ]
        except OSError:  # there is none, or it goes just now
            return ()
        return tuple(sorted((file, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for file, one in found))

    def read(self, name: str, reader: Callable[[Path], T]) -> T:
        """What `reader` makes of the folder, all of one version; asked again if the folder was replaced meanwhile.

        Raises:
            SnowError: there is no such folder, it cannot be read, or it has links in it; and what `reader` raises.
        """
        try:
            return read_consistently(lambda: self._place(name), lambda folder: reader(_without_links(folder)))
        except OSError as error:
            raise SnowError(f"{self.root / name} cannot be read: {error}") from error

    @contextmanager
    def writing(self, name: str, replace: bool = False) -> Generator[Path]:
        """An empty folder to fill, which gets the name in one step when the block ends well.

        Raises:
            SnowError: the name is unsafe, or taken and `replace` is False; it cannot be written.
        """
        folder = self.root / check_name(name)
        with self.locked(), atomic_folder(folder, replace) as new:
            yield new

    def remove(self, name: str) -> bool:
        """In one step. False: there is no such folder."""
        folder = self.root / check_name(name)
        with self.locked():
            if not os.path.lexists(folder):
                return False
            gone = folder.with_name(f".{name}.removed")
            try:
                folder.rename(gone)
            except OSError as error:
                raise SnowError(f"{folder} cannot be removed: {error}") from error
            discard(gone)
        return True

    @contextmanager
    def locked(self) -> Generator[None]:
        """The only writer, for as long as the block lasts, with nothing left over from one that was killed.

        Raises:
            SnowError: another one is at work for longer than `PATIENCE`, or the lock cannot be had.
        """
        with only_writer(self.lock.parent, self.lock, PATIENCE):
            self._tidy()
            yield

    def _place(self, name: str) -> Path:
        folder = self.root / check_name(name)
        return folder if os.path.lexists(folder) or not os.path.lexists(aside(folder)) else aside(folder)

    def _tidy(self) -> None:
        for path in self.root.glob(".*"):
            left = LEFTOVER.fullmatch(path.name)
            if left and left[2] == "old" and not os.path.lexists(self.root / left[1]):
                path.rename(self.root / left[1])
            elif left:
                discard(path)


def _without_links(folder: Path) -> Path:
    for path in (folder.parent, folder, *([] if folder.is_symlink() else folder.iterdir())):
        if path.is_symlink():
            raise SnowError(f"{path} is a link: a hub holds plain files")
        if not (path.is_file() or path.is_dir()):
            raise SnowError(f"{path} is neither a file nor a folder")
    return folder
