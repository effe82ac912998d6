"""Forms: `multipart/form-data` (RFC 7578) that lies in memory, or in a file that is mapped.

The body is cut at its boundaries, and nothing is copied. The time is that of a search, whatever the body holds.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from snow.serving.errors import RefusedError, printable

MAX_HEADER_BYTES = 4096
MAX_BOUNDARY_BYTES = 70
"""As in RFC 2046, section 5.1.1."""

Buffer = bytes | bytearray | mmap.mmap


@dataclass(frozen=True)
class Part:
    """One part of a form; `filename` is None for a field."""

    name: str
    filename: str | None
    content: memoryview

    @property
    def text(self) -> str:
        """The value of a field. Raises RefusedError: it is not UTF-8."""
        try:
            return bytes(self.content).decode()
        except UnicodeDecodeError:
            raise _malformed(f"the field {printable(self.name)} is not UTF-8") from None


def form_parts(body: Buffer, content_type: str, max_parts: int) -> Iterator[Part]:
    """Iterate over the parts of a form in order.

    Args:
        content_type: the header with the boundary.

    Raises:
        RefusedError: it is malformed, or has more parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise _malformed("Content-Type has no boundary")
    if not len(body):
        return
    delimiter = b"\r\n--" + boundary
    view = memoryview(body)
    position = 0 if body[: len(delimiter) - 2] == delimiter[2:] else body.find(delimiter) + 2
    if position == 1:
        raise _malformed("the boundary is missing")
    position += len(delimiter) - 2
    for _ in range(max_parts + 1):
        if body[position : position + 2] == b"--":
            return
        start = _end_of_line(body, position)
        end_of_header = body.find(b"\r\n\r\n", start - 2, start + MAX_HEADER_BYTES)
        end = body.find(delimiter, max(end_of_header + 2, start))
        if end_of_header < 0 or end < 0:
            raise _malformed("a part has no header, or no end")
        yield _part(bytes(body[start:end_of_header]), view[min(end_of_header + 4, end) : end])
        position = end + len(delimiter)
    raise RefusedError("too_many_pictures", f"the form has more than {max_parts} parts")


def _end_of_line(body: Buffer, position: int) -> int:
    """Skip the padding after a boundary."""
    end = body.find(b"\r\n", position, position + MAX_BOUNDARY_BYTES)
    if end < 0 or bytes(body[position:end]).strip(b" \t"):
        raise _malformed("a boundary is followed by something else")
    return end + 2


def _part(header: bytes, content: memoryview) -> Part:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            kind, options = parse_options_header(value.strip())
            if kind == b"form-data" and b"name" in options:
                filename = options.get(b"filename")
                return Part(_text(options[b"name"]), None if filename is None else _text(filename), content)
    raise _malformed("a part has no name")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _malformed(message: str) -> RefusedError:
    return RefusedError("malformed", f"the form cannot be read: {message}")
