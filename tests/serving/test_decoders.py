"""Pictures that take too long, too much memory, or the process that decodes them."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")

from snow.data.decode import MAX_SCANS
from snow.data.transforms import eval_transform
from snow.serving import decoders, decoding
from snow.serving.decoders import Decoders
from snow.serving.decoding import decode_picture
from snow.serving.errors import RefusedError
from snow.serving.fairness import Owner
from snow.serving.limits import Limits
from snow.source import Preprocessing

Wait = Callable[[Any], None]
SMALL = Preprocessing(image_size=32)


@asynccontextmanager
async def started(**limits: Any) -> AsyncGenerator[Decoders]:
    pool = Decoders(SMALL, Limits(**limits))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG of zeros; its scans refine nothing."""
    blocks = ((side + 7) // 8) ** 2
    tables = segment(0xDB, b"\0" + bytes([16] * 64))
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    huffman = segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
    huffman += segment(0xC4, b"\x10" + bytes([1, 1] + [0] * 14) + bytes([0xE0, 0x00]))
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8 + 1)
    bits, left = "", blocks
    while left > 0:
        run = min(left, 32767) if left >= 16384 else 32767
        bits += "0" + format(run - 16384, "014b")
        left -= run
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    again = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + coded
    return b"\xff\xd8" + tables + frame + huffman + first + again * scans + b"\xff\xd9"


def huge_tile() -> bytes:
    """A TIFF of 16 x 16 pixels in one tile of 60,000 x 60,000."""
    data = zlib.compress(bytes(1000))
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, 60_000), (323, 60_000)]
    tags += [(324, 8 + 2 + 12 * 10 + 4), (325, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + data


async def refusal(pool: Decoders, content: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        await pool.decode(content, 0, Owner())
    return refused.value.code


def test_pixels_are_those_of_this_process(jpeg: Callable[..., bytes], wait: Wait) -> None:
    cases = [jpeg(seed, kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"))]
    cases += [jpeg(7, size=(4200, 4100)), jpeg(8, progressive=True)]

    async def work() -> None:
        async with started() as pool:
            images = await asyncio.gather(*(pool.decode(content, 0, Owner()) for content in cases))
            for content, image in zip(cases, images, strict=True):
                assert image.equal(decode_picture(content, 0, eval_transform(SMALL), 10**9))

    wait(work())


def test_a_process_that_waits_returns_the_memory_of_the_pictures_before(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    with here, there:
        monkeypatch.setattr(decoding, "release_freed_memory", lambda: there.sendall(decoding.REQUEST.pack(3, 5)))
        monkeypatch.setattr(decoding, "IDLE_SECONDS", 0.0)
        assert decoding._next_request(here) == (3, 5)
        there.sendall(decoding.REQUEST.pack(7, 9))
        assert decoding._next_request(here) == (7, 9)
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            here.recv(1)  # nothing was released while a picture waited


def test_bombs_are_refused_and_others_are_answered_meanwhile(jpeg: Callable[..., bytes], wait: Wait) -> None:
    async def work() -> None:
        async with started(decode_time=0.3) as pool:
            bombs = [asyncio.create_task(refusal(pool, many_scans(6000, MAX_SCANS - 10))) for _ in range(4)]
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            await pool.decode(jpeg(), 0, Owner("good"))
            waited = time.monotonic() - begun
            assert set(await asyncio.gather(*bombs)) == {"too_complex"}
            assert waited < time.monotonic() - begun
            assert await refusal(pool, many_scans(64, MAX_SCANS + 1)) == "broken_picture"
            assert await refusal(pool, huge_tile()) == "too_many_pixels"
            assert (await pool.decode(jpeg(), 0, Owner())).shape == (3, 32, 32)

    wait(work())


def test_only_the_first_picture_of_an_animation_is_decoded(wait: Wait) -> None:
    frames = [Image.new("RGB", (64, 64), (index, 0, 0)) for index in range(40)]

    async def work() -> None:
        async with started() as pool:
            for kind in ("GIF", "WEBP", "PNG", "TIFF"):
                file = io.BytesIO()
                frames[0].save(file, kind, save_all=True, append_images=frames[1:])
                image = await pool.decode(file.getvalue(), 0, Owner())
                assert int(image[0].max()) == 0, kind

    wait(work())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory by /proc")
def test_memory_is_limited() -> None:
    code = """
from snow.serving.decoding import _limit_memory
_limit_memory(2**26)
bytearray(2**25)
try:
    bytearray(2**28)
except MemoryError:
    print("limited")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "limited\n", done.stderr


def test_a_lost_process_is_replaced(jpeg: Callable[..., bytes], wait: Wait) -> None:
    async def work() -> None:
        async with started(decoders=1, decode_time=0.5) as pool:
            slow = asyncio.create_task(refusal(pool, many_scans(6000, 400)))
            await asyncio.sleep(0.1)
            for child in children_of(decoders.fork_server()._process.pid):
                os.kill(child, signal.SIGSEGV)
            assert await slow in ("broken_picture", "too_complex")
            assert (await pool.decode(jpeg(), 0, Owner())).shape == (3, 32, 32)
            decoders.fork_server()._process.kill()
            slow = asyncio.create_task(pool.decode(many_scans(6000, 400), 0, Owner()))
            await asyncio.sleep(0.1)
            slow.cancel()
            assert (await pool.decode(jpeg(), 0, Owner())).shape == (3, 32, 32)

    wait(work())


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_what_nobody_wants_is_not_decoded(jpeg: Callable[..., bytes], wait: Wait) -> None:
    async def work() -> None:
        async with started(decoders=1, decode_time=60.0) as pool:
            tasks = [asyncio.create_task(pool.decode(many_scans(6000, 499), 0, Owner())) for _ in range(20)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await pool.decode(jpeg(size=(4200, 4100)), 0, Owner())
            assert len(pool._quick.queue) == len(pool._slow.queue) == 0
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

    wait(work())
