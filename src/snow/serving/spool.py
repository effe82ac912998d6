"""The folder for uploads that are being received. What a kill left behind is removed by the next service."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "snow-upload-"


class Spool:
    """A folder that belongs to this process as long as it lives: it is locked, and the system unlocks it at any end."""

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        self.path, self._lock = _create_locked()

    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """Create a folder for one upload."""
        return tempfile.TemporaryDirectory(dir=self.path)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _create_locked() -> tuple[Path, int]:
    """Create a folder and lock it. Before it is locked, another service may take it for abandoned and remove it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    return path, lock
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that are gone. Those of other users, and of running processes, stay."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
