"""Uploaded tasks: where an archive, or a form with files, is checked and unpacked. Nothing in it is ever run.

No name from a request becomes a path: a file is written only if it is one of `FILES`, under the name listed there.
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
from snow.hub.task_files import RECORD_FILE, SELECTION_FILE
from snow.serving.errors import CODES, RefusedError

REQUIRED = ("config.json", "model.safetensors", "metrics.json")
FILES = {name: name for name in (*REQUIRED, SELECTION_FILE, RECORD_FILE)}
"""The files that a task may have."""

IGNORED = (".md", ".gitattributes")
"""Suffixes of files that lie beside a task where tasks are shared; they are skipped."""

ARCHIVES = ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream")

JSON_BYTES = 2**24
CHUNK = 2**20

Member = tuple[str, IO[bytes]]


def unpack(archive: IO[bytes], folder: Path, limit: int) -> None:
    """Unpack the task in a ZIP, tar or gzipped tar into `folder`.

    Args:
        limit: largest size in bytes, unpacked.

    Raises:
        RefusedError: it is another format, damaged or too large, or holds anything but a task.
    """
    archive.seek(0)
    start = archive.read(4)
    archive.seek(0)
    members = _zipped(archive) if start.startswith(b"PK") else _tarred(archive, start, limit)
    try:
        write_files(members, folder, limit)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RefusedError("bad_task", f"the archive cannot be read: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip raises this for damaged data
            raise RefusedError("bad_task", f"the archive cannot be read: {error}") from None
        raise


def write_files(members: Iterator[Member], folder: Path, limit: int) -> None:
    """Write the files of a task into `folder`.

    Raises:
        RefusedError: a file is unknown, duplicate, missing or too large, or the disk is full.
    """
    remaining = limit
    for member, file in members:
        name = FILES.get(PurePosixPath(member).name)
        if name is None:
            if member.endswith(IGNORED) or is_junk_path(member):
                continue
            raise RefusedError("bad_task", f"{_shorten(member)} is not a file of a task: these are {', '.join(FILES)}")
        path = folder / name
        if path.exists():
            raise RefusedError("bad_task", f"there is more than one {name}")
        try:
            remaining -= _copy(file, path, min(remaining, JSON_BYTES) if name.endswith(".json") else remaining)
        except OSError as error:
            raise disk_full(error) or error from None
    missing = [name for name in REQUIRED if not (folder / name).exists()]
    if missing:
        raise RefusedError("bad_task", f"the upload has no {', '.join(missing)}")


def form_files(parts: list[tuple[str, str | UploadFile]]) -> Iterator[Member]:
    """Iterate over the files of a form. Raises RefusedError: a part is not a file."""
    for name, value in parts:
        if not isinstance(value, UploadFile):
            raise RefusedError("bad_task", f"{_shorten(name)} is not a file")
        yield value.filename or name, value.file


def disk_full(error: BaseException | None) -> RefusedError | None:
    """Return the refusal for a full disk, or None if the error has another cause."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return RefusedError("disk_full", CODES["disk_full"][1])
        if "No space left on device" in str(error):  # safetensors has no errno
            return RefusedError("disk_full", CODES["disk_full"][1])
        error = error.__cause__
    return None


def _copy(file: IO[bytes], path: Path, limit: int) -> int:
    count = 0
    with path.open("xb") as out:
        while chunk := file.read(CHUNK):
            count += len(chunk)
            if count > limit:
                raise RefusedError("too_many_bytes", f"{path.name} makes the task larger than the service allows")
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
                raise RefusedError("bad_task", f"{_shorten(entry.name)} is not a regular file")
            yield entry.name, file


class _Bounded(io.RawIOBase):
    """Reads a file. Raises RefusedError: it is longer than `limit`."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._file, self._remaining = file, limit

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self._remaining -= len(content)
        if self._remaining < 0:
            raise RefusedError("too_many_bytes", "the archive unpacks to more than the service allows")
        return content


def _shorten(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
