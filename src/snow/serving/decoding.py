"""The decoding of one picture, in a process that may be lost: what `snow.serving.decoders` starts and kills.

Decoders of pictures are C libraries that take hostile input. So they run in processes with limits on memory and
processor time, which know nothing but the pictures they are sent. A reply is never unpickled.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import wait

import torch
from torch import Tensor

from snow.data.decode import PictureError, decode_file, measure
from snow.data.pictures import Transform
from snow.data.transforms import eval_transform
from snow.process.startup import release_freed_memory
from snow.process.threads import on_one_core
from snow.serving.errors import RefusedError
from snow.source.preprocessing import Preprocessing

CODE_OF_REASON = {"broken": "broken_picture"}
"""`PictureError.reason` -> code of the refusal, where they differ."""

SIZE = struct.Struct("<Q")
"""Bytes of the setup that a process is sent first, pickled."""
REQUEST = struct.Struct("<IQ")
"""Index of a picture in its request, and its bytes."""
REPLY = struct.Struct("<cQ")
"""One of the letters below, and the bytes that follow, or the cost of a large picture."""
DECODED, REFUSED, LARGE = b"D", b"R", b"L"

BYTES_PER_PIXEL = 24
"""Memory that decoding may take: the coefficients of a progressive JPEG, or RGBA and its copies."""
OTHER_BYTES = 2**28

USUAL_SCANS = 16
"""Scans of a JPEG that cost about as much as its pixels."""

IDLE_SECONDS = 1.0
"""Time without a picture after which freed memory is returned to the system."""

SHORTEST = 1.0
"""Processor seconds that any picture may take; libraries are loaded in the first."""


@dataclass(frozen=True)
class Decoding:
    """What a decoding process does, and its limits.

    Attributes:
        max_pixels: a larger picture is refused.
        large_cost: a picture that costs more is not decoded: the reply is its cost, in pixels.
        seconds: of processor time for a picture of `max_pixels`; less for a smaller one, in proportion.
        longest: of processor time for any picture.
        niceness: added to that of the service.
    """

    preprocessing: Preprocessing
    max_pixels: int
    large_cost: int | None
    seconds: float
    longest: float
    niceness: int = 0


def decode_picture(
    content: bytes | bytearray | memoryview, number: int, transform: Transform, max_pixels: int
) -> Tensor:
    """Decode, resize and crop a picture: a file's bytes -> (3, S, S) uint8.

    Args:
        number: index of the picture in its request, from 0.

    Raises:
        RefusedError: it cannot be decoded, or is too large.
    """
    try:
        return transform(decode_file(BytesIO(content), f"picture {number}", max_pixels))
    except PictureError as error:
        raise RefusedError(CODE_OF_REASON.get(error.reason, error.reason), str(error), number) from None


def serve_pictures(connection: socket.socket) -> None:
    """Decode what comes over a connection until it is closed."""
    on_one_core()
    (length,) = SIZE.unpack(_receive(connection, SIZE.size))
    decoding: Decoding = pickle.loads(_receive(connection, length))
    transform = eval_transform(decoding.preprocessing)
    os.nice(decoding.niceness)
    _limit_memory(decoding.max_pixels * BYTES_PER_PIXEL + OTHER_BYTES)
    with suppress(ConnectionError):
        while True:
            number, length = _next_request(connection)
            connection.sendall(_reply(_receive(connection, length), number, decoding, transform))


def _next_request(connection: socket.socket) -> tuple[int, int]:
    """Wait for the next picture: its number and its bytes. If none comes soon, what the last ones took is returned."""
    if not wait([connection], IDLE_SECONDS):
        release_freed_memory()
    return REQUEST.unpack(_receive(connection, REQUEST.size))


def _reply(content: bytearray, number: int, decoding: Decoding, transform: Transform) -> bytes:
    try:
        _limit_seconds(min(SHORTEST, decoding.longest))
        pixels, scans = _measure(content, number, decoding.max_pixels)
        cost = pixels * (1 + scans // USUAL_SCANS)
        if decoding.large_cost is not None and cost > decoding.large_cost:
            return REPLY.pack(LARGE, cost)
        seconds = decoding.seconds * pixels / decoding.max_pixels
        _limit_seconds(min(max(SHORTEST, seconds), decoding.longest))
        image = decode_picture(content, number, transform, decoding.max_pixels).contiguous().numpy().tobytes()
        return REPLY.pack(DECODED, len(image)) + image
    except RefusedError as refusal:
        body = json.dumps([refusal.code, refusal.message]).encode()
        return REPLY.pack(REFUSED, len(body)) + body
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError where it cannot allocate
        body = json.dumps(["too_complex", f"picture {number}: cannot be decoded ({type(error).__name__})"]).encode()
        return REPLY.pack(REFUSED, len(body)) + body
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _measure(content: bytearray, number: int, max_pixels: int) -> tuple[int, int]:
    try:
        return measure(BytesIO(content), f"picture {number}", max_pixels)
    except PictureError as error:
        if error.reason == "broken":  # `decode_file` knows pictures whose header Pillow refuses
            return 0, 1
        raise RefusedError(CODE_OF_REASON.get(error.reason, error.reason), str(error), number) from None


def _limit_seconds(seconds: float) -> None:
    """End the process by SIGPROF when it has computed for so long."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(count: int) -> None:
    """Let the process allocate so many bytes in addition to what it has."""
    with suppress(OSError, ValueError), open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + count
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _receive(connection: socket.socket, count: int) -> bytearray:
    """Receive so many bytes. Raises ConnectionError: the connection is closed."""
    content = bytearray(count)
    view = memoryview(content)
    while view:
        received = connection.recv_into(view)
        if not received:
            raise ConnectionError("closed")
        view = view[received:]
    return content


def to_image(content: bytearray, side: int) -> Tensor:
    """Read what a decoding process replies: bytes -> (3, S, S) uint8."""
    return torch.frombuffer(content, dtype=torch.uint8).view(3, side, side)
