"""A task as it comes over the network: an archive, or a form with its files. Nothing in it is ever run.

No name from a request becomes a path: a file is kept only if it is one of `FILES`, under the name that stands there.
"""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from starlette.datastructures import UploadFile

from snow.data import is_junk_path
from snow.hub.artifact import SELECTION_FILE
from snow.hub.task_record import RECORD_FILE
from snow.serving.errors import RefusedError

NEEDED = ("config.json", "model.safetensors", "metrics.json")
FILES = {name: name for name in (*NEEDED, SELECTION_FILE, RECORD_FILE)}
"""What a task may consist of."""

IGNORED = (".md", ".gitattributes")
"""Ends of names that lie beside a task where tasks are shared."""

ARCHIVES = ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream")

JSON_BYTES = 2**24
CHUNK = 2**20

Member = tuple[str, IO[bytes]]


def unpack(archive: IO[bytes], folder: Path, limit: int) -> None:
    """Puts the task of a ZIP, tar or gzipped tar into `folder`.

    Args:
        limit: bytes that it may have, unpacked.

    Raises:
        RefusedError: it is none of these, is damaged or too large, or holds something else than a task.
    """
    archive.seek(0)
    start = archive.read(4)
    archive.seek(0)
    members = _zipped(archive) if start.startswith(b"PK") else _tarred(archive, start, limit)
    try:
        keep(members, folder, limit)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RefusedError("bad_task", f"the archive cannot be read: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip's way to say that it is damaged
            raise RefusedError("bad_task", f"the archive cannot be read: {error}") from None
        raise


def keep(members: Iterator[Member], folder: Path, limit: int) -> None:
    """Writes the files of a task into `folder`.

    Raises:
        RefusedError: one is unknown, comes twice, is missing or too large; the disk is full.
    """
    left = limit
    for said, file in members:
        name = FILES.get(PurePosixPath(said).name)
        if name is None:
            if said.endswith(IGNORED) or is_junk_path(said):
                continue
            raise RefusedError("bad_task", f"{_shown(said)} is no file of a task: there are {', '.join(FILES)}")
        path = folder / name
        if path.exists():
            raise RefusedError("bad_task", f"there is more than one {name}")
        try:
            left -= _copy(file, path, min(left, JSON_BYTES) if name.endswith(".json") else left)
        except OSError as error:
            raise full(error) or error from None
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise RefusedError("bad_task", f"the upload has no {', '.join(missing)}")


def of_form(parts: list[tuple[str, str | UploadFile]]) -> Iterator[Member]:
    """The files of a form."""
    for name, value in parts:
        if not isinstance(value, UploadFile):
            raise RefusedError("bad_task", f"{_shown(name)} is no file")
        yield value.filename or name, value.file


def full(error: BaseException | None) -> RefusedError | None:
    """What is said of a full disk; None if the error is another one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return RefusedError("disk_full", "there is no room for the upload")
        if "No space left on device" in str(error):  # safetensors tells it in words
            return RefusedError("disk_full", "there is no room for the upload")
        error = error.__cause__
    return None


def _copy(file: IO[bytes], path: Path, limit: int) -> int:
    count = 0
    with path.open("xb") as out:
        while chunk := file.read(CHUNK):
            count += len(chunk)
            if count > limit:
                raise RefusedError("too_many_bytes", f"{path.name} makes the task larger than the service takes")
            out.write(chunk)
    return count


def _zipped(archive: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if not entry.is_dir():
                with opened.open(entry) as file:
                    yield entry.filename, file


def _tarred(archive: IO[bytes], start: bytes, limit: int) -> Iterator[Member]:
    plain = gzip.GzipFile(fileobj=archive) if start.startswith(b"\x1f\x8b") else archive
    with tarfile.open(fileobj=_Bounded(plain, limit + CHUNK), mode="r|") as opened:
        for entry in opened:
            if entry.isdir():
                continue
            file = opened.extractfile(entry) if entry.isreg() else None
            if file is None:
                raise RefusedError("bad_task", f"{_shown(entry.name)} is no plain file")
            yield entry.name, file


class _Bounded(io.RawIOBase):
    """A file to read that ends in a refusal if it is longer than it may be."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._file, self._left = file, limit

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise RefusedError("too_many_bytes", "the archive unpacks to more than the service takes")
        return content


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
