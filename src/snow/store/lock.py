"""Locks between processes: one writer at a time. A process that dies releases its locks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from snow.errors import SnowError, file_error


@contextmanager
def write_lock(target: Path | str, lock: Path, timeout: float = 0.0, activity: str = "written") -> Generator[None]:
    """Hold the lock of a file or folder during the block.

    Args:
        target: what an error message says is being written.
        lock: file used for locking only; its folder is created.
        timeout: seconds to wait for another writer.
        activity: what an error message says another process does with it.

    Raises:
        SnowError: another writer works for longer, or the lock file cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(lock, timeout=timeout, poll_interval=0.01)
        file_lock.acquire()
    except Timeout:
        raise SnowError(f"{target} is being {activity} by another process: try again later") from None
    except (OSError, NotImplementedError) as error:  # a file system without locks
        reason = getattr(error, "strerror", None) or error
        raise file_error(f"{target} cannot be written: {reason}", error) from error
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def exclusive(out: Path | None, *, folder: bool = False) -> Generator[None]:
    """Keep other processes that call this from working on the results at `out` during the block.

    Args:
        out: file or folder of the results; None: nothing is locked.
        folder: whether `out` is a folder.

    Raises:
        SnowError: another process works on them, or `out` cannot be written.
    """
    if out is None:
        yield
        return
    with write_lock(out, out / ".lock" if folder else out.with_name(f".{out.name}.lock")):
        yield
