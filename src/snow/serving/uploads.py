"""Uploaded tasks: where an archive, or a form with files, is checked and unpacked. Nothing in it is ever run.

No name from a request becomes a path: a file is written only if it is one of `FILES`, under the name listed there.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from snow.data import is_junk_path
from snow.hub.task_files import CONFIG_FILE, METRICS_FILE, MODEL_FILE
from snow.hub.task_files import FILES as TASK_FILES
from snow.serving.archives import CHUNK, Member, Readable, members
from snow.serving.errors import CODES, RefusedError, printable
from snow.serving.forms import form_parts

REQUIRED = (CONFIG_FILE, MODEL_FILE, METRICS_FILE)
FILES = {name: name for name in TASK_FILES}
"""The files that a task may have."""

IGNORED = (".md", ".gitattributes")
"""Suffixes of files that lie beside a task where tasks are shared; they are skipped."""

ARCHIVES = ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream")

JSON_BYTES = 2**24

JSON_VALUES = 500_000
"""Values in a JSON file, counted by its commas. While Python parses millions of them, it answers nobody."""

MAX_FILES = 16
"""Parts of a form."""


def unpack(archive: IO[bytes], folder: Path, limit: int) -> None:
    """Unpack the task in a ZIP, tar or gzipped tar into `folder`.

    Args:
        limit: largest size in bytes, unpacked.

    Raises:
        RefusedError: it is another format, damaged or too large, or holds anything but a task.
    """
    write_files(members(archive, limit), folder, limit)


def unpack_form(body: IO[bytes], content_type: str, folder: Path, limit: int) -> None:
    """Write the files of a form into `folder`.

    Args:
        body: a file of this machine, which is mapped and not read into memory.

    Raises:
        RefusedError: it is malformed or too large, or holds anything but a task.
    """
    body.flush()
    if not body.seek(0, io.SEEK_END):
        raise RefusedError("bad_task", "the form is empty")
    mapped = mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped when its last part is forgotten
    write_files(_form_files(mapped, content_type), folder, limit)


def _form_files(body: mmap.mmap, content_type: str) -> Iterator[Member]:
    for part in form_parts(body, content_type, MAX_FILES):
        if part.filename is None:
            raise RefusedError("bad_task", f"{printable(part.name)} is not a file")
        yield part.filename or part.name, _View(part.content)


class _View:
    """Reads a part of the mapped body without copying more than is asked for."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def read(self, size: int, /) -> bytes:
        part, self._content = bytes(self._content[:size]), self._content[size:]
        return part


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
            raise RefusedError("bad_task", f"{printable(member)} is not a file of a task: these are {', '.join(FILES)}")
        path = folder / name
        if path.exists():
            raise RefusedError("bad_task", f"there is more than one {name}")
        try:
            remaining -= _copy(file, path, min(remaining, JSON_BYTES) if name.endswith(".json") else remaining)
        except OSError as error:
            raise storage_refusal(error) or error from None
        if name.endswith(".json") and path.read_bytes().count(b",") > JSON_VALUES:
            raise RefusedError("bad_task", f"{name} has more than {JSON_VALUES:,} values")
    missing = [name for name in REQUIRED if not (folder / name).exists()]
    if missing:
        raise RefusedError("bad_task", f"the upload has no {', '.join(missing)}")


def storage_refusal(error: BaseException | None) -> RefusedError | None:
    """Return the refusal for a full disk or a read-only folder, or None if the error has another cause."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or os.strerror(errno.ENOSPC) in str(error):
            return RefusedError("disk_full", CODES["disk_full"][1])  # the errors of safetensors have no number
        if number in (errno.EROFS, errno.EACCES, errno.EPERM) or os.strerror(errno.EROFS) in str(error):
            return RefusedError("read_only", CODES["read_only"][1])
        error = error.__cause__ or error.__context__
    return None


def _copy(file: Readable, path: Path, limit: int) -> int:
    count = 0
    with path.open("xb") as out:
        while chunk := file.read(CHUNK):
            count += len(chunk)
            if count > limit:
                raise RefusedError("too_many_bytes", f"{path.name} makes the task larger than the service allows")
            out.write(chunk)
    return count
