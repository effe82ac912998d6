"""Attacks on a service, for `under_fire.py`: what hostile or broken clients send. Nothing here imports torch."""

from __future__ import annotations

import asyncio
import base64
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

TIMEOUT = 30.0
TOKEN = "a token that nobody can guess"

Attack = Callable[[int, asyncio.Event], Awaitable[None]]


def photograph() -> bytes:
    """A JPEG of 640 x 480, about as large as a photograph."""
    coarse = Image.frombytes("RGB", (80, 60), random.Random(0).randbytes(3 * 80 * 60))
    file = io.BytesIO()
    coarse.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def png(side: int) -> bytes:
    """A PNG of so many pixels, of one bit each, in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes((side + 7) // 8 * side + side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG with many scans that say nothing."""

    def segment(kind: int, content: bytes) -> bytes:
        return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content

    blocks = ((side + 7) // 8) ** 2
    start = segment(0xDB, b"\0" + bytes([16] * 64))
    start += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    start += segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
    start += segment(0xC4, b"\x10" + bytes([1, 1] + [0] * 14) + bytes([0xE0, 0]))
    start += segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8 + 1)
    runs = [32767] * (blocks // 32767 + 1)
    bits = "".join("0" + format(run - 16384, "014b") for run in runs)
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + start + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + coded) * count + b"\xff\xd9"


def gif(frames: int, side: int) -> bytes:
    """An animated GIF."""
    file = io.BytesIO()
    colours = [Image.new("P", (side, side), number % 256) for number in range(frames)]
    colours[0].save(file, "GIF", save_all=True, append_images=colours[1:])
    return file.getvalue()


def tiled_tiff(side: int) -> bytes:
    """A TIFF of 64 pixels whose one tile has `side` squared (TIFF 6.0, section 15)."""
    packed = zlib.compress(bytes(side * side), 9)
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [*tags, (324, start), (325, len(packed))]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + packed


def pax(digits: int) -> bytes:
    """A tar whose extended header is one long number."""
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = digits + 1, tarfile.XHDTYPE
    return entry.tobuf() + b"1" * digits + b" " + bytes(-(digits + 1) % 512 + 1024)


def uploaded(folder: Path, changes: dict[str, bytes]) -> bytes:
    """A ZIP with the files of a task, of which some are changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            if path.name != "fingerprint.json":
                archive.writestr(path.name, changes.get(path.name) or path.read_bytes())
    return file.getvalue()


def request(
    body: bytes, kind: str, path: str = "/v1/predict", length: int | None = None, method: str = "POST"
) -> bytes:
    """The bytes of a request; with `length`, what it says of its body. A PUT has the token."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\n" if method == "PUT" else ""
    return head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def form(pictures: int, content: bytes, path: str = "/v1/predict") -> bytes:
    part = b'--X\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + content + b"\r\n"
    return request(part * pictures + b"--X--\r\n", "multipart/form-data; boundary=X", path)


async def exchange(port: int, content: bytes) -> int:
    """Send a request and read the response. Returns its status, 0 for none."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        line = await asyncio.wait_for(reader.readline(), TIMEOUT)
        await asyncio.wait_for(reader.read(), TIMEOUT)
        return int(line.split()[1])
    except (OSError, TimeoutError, IndexError):
        return 0
    finally:
        if writer is not None:
            writer.transport.abort()


def repeated(content: bytes, clients: int) -> Attack:
    """Clients that send the same request again and again."""

    async def attack(port: int, stop: asyncio.Event) -> None:
        async def send() -> None:
            while not stop.is_set():
                await exchange(port, content)
                await asyncio.sleep(0.05)

        await until(stop, *(send() for _ in range(clients)))

    return attack


def hung_up(content: bytes, clients: int) -> Attack:
    """Clients that send a request and are gone."""

    async def attack(port: int, stop: asyncio.Event) -> None:
        async def send() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(content)
                    await writer.drain()
                    writer.close()
                await asyncio.sleep(0.05)

        await until(stop, *(send() for _ in range(clients)))

    return attack


def slow(start: bytes, more: bytes, pause: float, connections: int) -> Attack:
    """Connections that begin a request, and send more of it now and then."""

    async def attack(port: int, stop: asyncio.Event) -> None:
        async def send() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    try:
                        writer.write(start)
                        while True:
                            await writer.drain()
                            await asyncio.sleep(pause)
                            writer.write(more)
                    finally:
                        writer.transport.abort()
                await asyncio.sleep(0.2)

        await until(stop, *(send() for _ in range(connections)))

    return attack


async def until(stop: asyncio.Event, *attackers: Any) -> None:
    """Run attackers until the end of the attack."""
    tasks = [asyncio.create_task(attacker) for attacker in attackers]
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def photographs(path: str = "/v1/predict") -> bytes:
    return form(64, photograph(), path)


def names(count: int) -> bytes:
    """JSON with a picture and this many names of tasks."""
    listed = b",".join(b'"%x"' % number for number in range(count))
    return request(b'{"images":["aGk="],"tasks":[' + listed + b"]}", "application/json")


def encoded_photographs() -> bytes:
    pictures = b'","'.join([base64.b64encode(photograph())] * 64)
    return request(b'{"images":["' + pictures + b'"]}', "application/json")


def get(path: str, connection: str = "close") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()


def ranges(count: int) -> str:
    """Many ranges of one byte each, in a header of 60 kB."""
    return ",".join(f"{2 * number}-" for number in range(count))


def chunked(count: int) -> bytes:
    """A body in chunks of one byte."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n"
    return head + b"Connection: close\r\n\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"


def put(content: bytes, kind: str = "application/zip") -> bytes:
    return request(content, kind, "/v1/tasks/t0001", method="PUT")


def put_changed(task: Path, name: str, content: bytes) -> bytes:
    return put(uploaded(task, {name: content}))


def put_nan(task: Path) -> bytes:
    content = (task / "model.safetensors").read_bytes()
    return put_changed(task, "model.safetensors", content[:-4] + struct.pack("<f", float("nan")))


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
GUESS = b"DELETE /v1/tasks/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\nConnection: close\r\n\r\n"

ATTACKS: dict[str, Callable[[Path], Attack]] = {
    "none": lambda task: repeated(HEAD, 0),
    "JPEG, 10,000 scans": lambda task: repeated(request(scans(7000, 10_000), "image/jpeg"), 4),
    "JPEG, 490 scans of 49 megapixels": lambda task: repeated(request(scans(7000, 490), "image/jpeg"), 4),
    "JPEG, 490 scans of 9 megapixels": lambda task: repeated(request(scans(3000, 490), "image/jpeg"), 4),
    "64 PNG of 49 megapixels": lambda task: repeated(form(64, png(7000)), 3),
    "64 GIF of 1,000 frames": lambda task: repeated(form(64, gif(1000, 64)), 3),
    "64 TIFF with a tile of 49 megapixels": lambda task: repeated(form(64, tiled_tiff(7000)), 3),
    "64 photographs": lambda task: repeated(photographs(), 6),
    "64 photographs, 1,000 classes": lambda task: repeated(photographs("/v1/predict?top_k=1000&tasks=(source)"), 4),
    "64 photographs, hung up": lambda task: hung_up(photographs(), 6),
    "JSON, 3,000,000 names": lambda task: repeated(names(3_000_000), 2),
    "JSON, 64 photographs": lambda task: repeated(encoded_photographs(), 4),
    "form, 500,000 boundaries": lambda task: repeated(
        request(b"\r\n--X" * 500_000, "multipart/form-data; boundary=X"), 2
    ),
    "headers that never end": lambda task: slow(HEAD, b"X: y\r\n", 1.0, 1100),
    "headers without bound": lambda task: slow(HEAD, b"X: " + b"y" * 50_000, 0.01, 32),
    "bodies of one byte": lambda task: slow(request(b"\xff", "image/jpeg", length=1000), b"", 1.0, 256),
    "256 bodies of 30 MB": lambda task: slow(
        request(bytes(2**20), "image/jpeg", length=30 * 2**20), bytes(2**16), 1.0, 256
    ),
    "chunks of one byte": lambda task: repeated(chunked(1_000_000), 16),
    "JSON, base64 with 9,000,000 blanks": lambda task: repeated(
        request(b'{"images":["' + b"AA " * 9_000_000 + b'"]}', "application/json"), 4
    ),
    "64 photographs, deadline 1 ms": lambda task: repeated(photographs("/v1/predict?deadline_ms=1"), 6),
    "responses that nobody reads": lambda task: slow(
        photographs("/v1/predict?top_k=1000&tasks=(source)"), b"", 1.0, 64
    ),
    "requests one behind the other": lambda task: repeated(get("/healthz", "keep-alive") * 500, 32),
    "ranges of a page": lambda task: repeated(get("/", "close\r\nRange: bytes=" + ranges(9000)), 32),
    "websockets": lambda task: repeated(get("/", "Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"), 32),
    "descriptions of the service": lambda task: repeated(get("/openapi.json"), 32),
    "metrics": lambda task: repeated(get("/metrics"), 300),
    "wrong tokens": lambda task: repeated(GUESS, 32),
    "lists of tasks": lambda task: repeated(get("/v1/tasks"), 32),
    "tasks described": lambda task: repeated(get("/v1/tasks/t0001"), 300),
    "uploads, tar with a long number": lambda task: repeated(put(pax(150_000), "application/x-tar"), 4),
    "uploads, ZIP of 400 MB of zeros": lambda task: repeated(
        put_changed(task, "model.safetensors", bytes(400 * 2**20)), 4
    ),
    "uploads, JSON of 4,000,000 numbers": lambda task: repeated(
        put_changed(task, "metrics.json", b'{"a":[' + b"0," * 4_000_000 + b"0]}"), 4
    ),
    "uploads, JSON of 400,000 numbers": lambda task: repeated(
        put_changed(task, "metrics.json", b'{"a":[' + b"0," * 400_000 + b"0]}"), 4
    ),
    "uploads with NaN": lambda task: repeated(put_nan(task), 4),
    "a task replaced again and again": lambda task: repeated(put(uploaded(task, {})), 4),
}
"""Name -> makes the attack; it may need the folder of a task of the service."""
