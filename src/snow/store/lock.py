"""One writer at a time, of all processes that ask."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from snow.errors import SnowError, file_error


@contextmanager
def only_writer(of: Path, lock: Path, patience: float = 0.0) -> Generator[None]:
    """Of a file or folder, for as long as the block lasts. A process that dies lets go.

    Args:
        lock: a file for this alone; its folder is made if it is not there.
        patience: seconds to wait for another writer.

    Raises:
        SnowError: another one is at work for longer, or the lock cannot be had.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=patience, poll_interval=0.01)
        held.acquire()
    except Timeout:
        raise SnowError(f"{of} is being written by another process: try again later") from None
    except OSError as error:
        raise file_error(f"{of} cannot be written: {error}", error) from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def exclusive(out: Path | None, *, folder: bool = False) -> Generator[None]:
    """As long as the block lasts no other process works on these results, if it asks as well.

    Args:
        folder: `out` is one, not a file.

    Raises:
        SnowError: another one does, or `out` cannot be written.
    """
    if out is None:
        yield
        return
    with only_writer(out, out / ".lock" if folder else out.with_name(f".{out.name}.lock")):
        yield
