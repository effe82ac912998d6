"""Archives: the regular files in a ZIP, tar or gzipped tar that a client sent.

Python's `tarfile` follows whatever headers say: extended headers of any length, sparse files, links. A task needs none
of them, so a tar is read here as what it is: blocks of 512 bytes, a header and the content of a file (POSIX.1-2017,
pax, "ustar Interchange Format"). Numbers of members and sizes of headers are bounded.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

from snow.serving.errors import RefusedError, printable

MAX_MEMBERS = 64
"""Members of an archive, folders and ignored files included."""

MAX_HEADER_BYTES = 2**16
"""Of an extended header of a tar, and of the directory of a ZIP."""

CHUNK = 2**20

_BLOCK = 512
_REGULAR, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME = b"x", b"g", b"L"

_ZIP_END, _ZIP64_END, _ZIP64_LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ZIP_END_BYTES, _ZIP64_END_BYTES, _ZIP64_LOCATOR_BYTES, _ZIP_COMMENT_BYTES = 22, 56, 20, 2**16


class Readable(Protocol):
    """Anything with a `read`."""

    def read(self, size: int, /) -> bytes:
        """Read up to so many bytes; less only at the end."""
        ...


Member = tuple[str, Readable]
"""The name of a file, and its content."""


def members(archive: IO[bytes], limit: int) -> Iterator[Member]:
    """Iterate over the regular files of an archive: name, and a file to read before the next one.

    Args:
        limit: largest size in bytes, unpacked.

    Raises:
        RefusedError: it is another format, damaged or too large, or has links, devices or too many members.
    """
    archive.seek(0)
    start = archive.read(4)
    archive.seek(0)
    if start.startswith(b"PK"):
        return _zipped(archive)
    if start.startswith(b"\x1f\x8b"):
        return _tarred(_Unpacked(archive, limit + CHUNK))
    return _tarred(archive)


def _zipped(archive: IO[bytes]) -> Iterator[Member]:
    _check_directory(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise _damaged(f"{printable(entry.filename)} is not compressed by deflate")
                if not entry.is_dir():
                    with opened.open(entry) as file:
                        yield entry.filename, file
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(str(error)) from None


def _check_directory(archive: IO[bytes]) -> None:
    """Refuse a ZIP whose directory is large: `zipfile` reads all of it when it opens a file (APPNOTE.TXT, 4.3.16)."""
    length = archive.seek(0, io.SEEK_END)
    archive.seek(max(0, length - _ZIP_END_BYTES - _ZIP_COMMENT_BYTES - _ZIP64_END_BYTES - _ZIP64_LOCATOR_BYTES))
    end = archive.read()
    archive.seek(0)
    position = end.rfind(_ZIP_END)
    if position < 0 or len(end) < position + _ZIP_END_BYTES:
        raise _damaged("it has no end")
    entries, size = struct.unpack_from("<HI", end, position + 10)
    if end[max(0, position - _ZIP64_LOCATOR_BYTES) :].startswith(_ZIP64_LOCATOR):
        position -= _ZIP64_LOCATOR_BYTES + _ZIP64_END_BYTES
        if position < 0 or not end.startswith(_ZIP64_END, position):
            raise _damaged("its end is not where it should be")
        entries, size = struct.unpack_from("<QQ", end, position + 32)
    if entries > MAX_MEMBERS or size > MAX_HEADER_BYTES:
        raise _too_many()


def _tarred(archive: Readable) -> Iterator[Member]:
    long_name = ""
    for _ in range(MAX_MEMBERS):
        header = _exactly(archive, _BLOCK)
        if not header.strip(b"\0"):
            return
        if _octal(header[148:156]) != sum(header[:148]) + sum(header[156:]) + 8 * ord(" "):
            raise _damaged("it is neither ZIP nor tar, or a header is damaged")
        kind, size = header[156:157], _octal(header[124:136])
        name = long_name or _name(header)
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            if size > MAX_HEADER_BYTES:
                raise _damaged("an extended header is too long")
            content = _exactly(archive, size)
            if kind == _LONG_NAME:
                long_name = _text(content)
            elif kind == _PAX:
                long_name = _pax_path(content) or long_name
        elif kind in _REGULAR:
            file = _Content(archive, size)
            yield name, file
            file.skip()
            long_name = ""
        elif kind == _FOLDER and not size:
            long_name = ""
        else:
            raise RefusedError("bad_task", f"{printable(name)} is not a regular file")
        _exactly(archive, -size % _BLOCK)
    raise _too_many()


def _pax_path(content: bytes) -> str:
    """Read the path in an extended header: records `LENGTH KEY=VALUE\\n`. Other keys do not matter to a task."""
    path = ""
    while content:
        length, space, _ = content[:8].partition(b" ")
        if not space or not length.isdigit() or not len(length) + 2 < int(length) <= len(content):
            raise _damaged("an extended header is damaged")
        key, _, value = content[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
        content = content[int(length) :]
        if key.startswith(b"GNU.sparse") or key == b"size":
            raise RefusedError("bad_task", "the archive has sparse files, or files of more than 8 GB")
        if key == b"path":
            path = _text(value)
    return path


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("utf-8", "replace")


def _octal(field: bytes) -> int:
    """Read a number of a header: octal digits, or 256 to a byte if the first bit is set (as GNU tar writes it)."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise _damaged("it is neither ZIP nor tar, or a header is damaged") from None


def _exactly(archive: Readable, count: int) -> bytes:
    content = archive.read(count) if count else b""
    if len(content) < count:
        raise _damaged("it ends too early")
    return content


class _Content:
    """The content of one file in a tar."""

    def __init__(self, archive: Readable, size: int) -> None:
        self._archive, self._remaining = archive, size

    def read(self, size: int, /) -> bytes:
        content = _exactly(self._archive, min(size, self._remaining))
        self._remaining -= len(content)
        return content

    def skip(self) -> None:
        """Read what was not read."""
        while self.read(CHUNK):
            pass


class _Unpacked:
    """Reads a gzipped file. Raises RefusedError: it is damaged, or longer than `limit`."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._remaining = file, limit
        self._gzip = zlib.decompressobj(wbits=31)

    def read(self, size: int, /) -> bytes:
        """Read so many bytes, or less at the end."""
        parts: list[bytes] = []
        while size and not self._gzip.eof:
            packed = self._gzip.unconsumed_tail or self._file.read(CHUNK)
            if not packed:
                raise _damaged("it ends too early")
            try:
                part = self._gzip.decompress(packed, size)
            except zlib.error as error:
                raise _damaged(str(error)) from None
            parts.append(part)
            size -= len(part)
            self._remaining -= len(part)
            if self._remaining < 0:
                raise RefusedError("too_many_bytes", "the archive unpacks to more than the service allows")
        return b"".join(parts)


def _damaged(reason: str) -> RefusedError:
    return RefusedError("bad_task", f"the archive cannot be read: {reason}")


def _too_many() -> RefusedError:
    return RefusedError("bad_task", f"the archive has more than {MAX_MEMBERS} members")
