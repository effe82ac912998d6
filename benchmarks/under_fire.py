"""A service under attack, and one good client beside each attack.

`python benchmarks/under_fire.py my-hub --out results.json` serves the hub on this machine, in a process of its own, and
attacks it over the loopback interface, one kind of attack after the other, for a bounded time each. Meanwhile one
client sends a photograph every third of a second. It reports what that client gets, and what memory the service keeps:

- **answered**: the share of the good client's requests with status 200; at least 99 %.
- **p99**: of the good client's latency; under 2 s.
- **memory**: of the service and its decoding processes, before the first attack, at most, and after each; back to
  within 10 %.

The good client has the address of the attackers. That is the harder case: the service cannot tell them apart by it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

PERIOD = 1 / 3
TIMEOUT = 30.0
SETTLE_SECONDS = 5.0
START_SECONDS = 180.0

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


def request(body: bytes, kind: str, path: str = "/v1/predict", length: int | None = None) -> bytes:
    """The bytes of a POST; with `length`, what it says of its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def form(pictures: int, content: bytes) -> bytes:
    part = b'--X\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + content + b"\r\n"
    return request(part * pictures + b"--X--\r\n", "multipart/form-data; boundary=X")


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


def attacks(picture: bytes) -> dict[str, Attack]:
    """Every attack, by name."""
    names = b",".join(b'"%x"' % number for number in range(3_000_000))
    json_body = b'{"images":["aGk="],"tasks":[' + names + b"]}"
    encoded = b'{"images":["' + b'","'.join([base64.b64encode(picture)] * 64) + b'"]}'
    guess = (
        b"DELETE /v1/tasks/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\nConnection: close\r\n\r\n"
    )
    get = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    return {
        "none": repeated(get + b"Connection: close\r\n\r\n", 0),
        "JPEG, 10,000 scans": repeated(request(scans(7000, 10_000), "image/jpeg"), 4),
        "JPEG, 490 scans of 49 megapixels": repeated(request(scans(7000, 490), "image/jpeg"), 4),
        "JPEG, 490 scans of 9 megapixels": repeated(request(scans(3000, 490), "image/jpeg"), 4),
        "64 PNG of 49 megapixels": repeated(form(64, png(7000)), 3),
        "64 photographs": repeated(form(64, picture), 6),
        "64 photographs, hung up": hung_up(form(64, picture), 6),
        "JSON, 3,000,000 names": repeated(request(json_body, "application/json"), 2),
        "JSON, 64 photographs": repeated(request(encoded, "application/json"), 4),
        "form, 500,000 boundaries": repeated(request(b"\r\n--X" * 500_000, "multipart/form-data; boundary=X"), 2),
        "headers that never end": slow(get, b"X: y\r\n", 1.0, 1100),
        "headers without bound": slow(get, b"X: " + b"y" * 50_000, 0.01, 32),
        "bodies of one byte": slow(request(b"\xff", "image/jpeg", length=1000), b"", 1.0, 256),
        "256 bodies of 30 MB": slow(request(bytes(2**20), "image/jpeg", length=30 * 2**20), bytes(2**16), 1.0, 256),
        "wrong tokens": repeated(guess + b"\r\n\r\n", 32),
    }


def memory(pid: int) -> int:
    """Resident bytes of a process and all below it, without what they share."""
    total = 0
    pids = [pid]
    for parent in pids:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
            text = Path(f"/proc/{parent}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


async def attack_for(name: str, port: int) -> None:
    """Attack until standard input is closed."""
    attack, stop = attacks(photograph())[name], asyncio.Event()
    attacking = asyncio.create_task(attack(port, stop))
    print("attacking", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await attacking


async def measure(port: int, pid: int, attack: str, picture: bytes, seconds: float) -> dict[str, Any]:
    """Attack a service for some seconds, and be a good client of it."""
    statuses, times, peak = Counter[str](), list[float](), 0
    content = request(picture, "image/jpeg")

    async def good() -> None:
        started = time.perf_counter()
        statuses[str(await exchange(port, content))] += 1
        times.append(time.perf_counter() - started)

    command = [sys.executable, __file__, "--attacker", attack, "--port", str(port), "."]  # it delays only the service
    attacker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attacker.stdout is not None
    await asyncio.to_thread(attacker.stdout.readline)
    waiting = []
    for number in range(round(seconds / PERIOD)):
        waiting.append(asyncio.create_task(good()))
        await asyncio.sleep(PERIOD)
        if number % 6 == 5:
            peak = max(peak, await asyncio.to_thread(memory, pid))
    await asyncio.gather(*waiting)
    await asyncio.to_thread(attacker.communicate)
    await asyncio.sleep(SETTLE_SECONDS)
    times.sort()
    return {
        "requests": len(times),
        "statuses": dict(statuses),
        "answered": statuses["200"] / len(times),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(0.99 * len(times)))],
        "peak": peak,
        "after": await asyncio.to_thread(memory, pid),
    }


async def run(port: int, process: subprocess.Popen[bytes], chosen: list[str], seconds: float) -> dict[str, Any]:
    picture = photograph()
    begun = time.monotonic()
    while await exchange(port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") != 200:
        if process.poll() is not None or time.monotonic() - begun > START_SECONDS:
            raise SystemExit("the service does not start")
        await asyncio.sleep(0.2)
    for _ in range(20):
        await exchange(port, request(picture, "image/jpeg"))
    before = memory(process.pid)
    results = {}
    for name in chosen or attacks(picture):
        results[name] = measured = await measure(port, process.pid, name, picture, seconds)
        megabytes = " -> ".join(f"{value / 2**20:.0f}" for value in (before, measured["peak"], measured["after"]))
        latency = f"p50 {measured['p50']:.2f} s, p99 {measured['p99']:.2f} s"
        print(f"{name:36} answered {measured['answered']:7.1%}, {latency}, memory {megabytes} MB", flush=True)
    return {"memory_before": before, "seconds": seconds, "attacks": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hub", type=Path)
    parser.add_argument("--out", type=Path, default=Path("under-fire.json"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--attack", action="append", default=[], help="name of an attack; by default all")
    parser.add_argument("--attacker", help="only attack the service at --port, until standard input ends")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.attacker:
        asyncio.run(attack_for(arguments.attacker, arguments.port))
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "SNOW_TOKEN": "a token that nobody can guess"}
    command = [sys.executable, "-m", "snow", "serve", str(arguments.hub), "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        results = asyncio.run(run(port, process, arguments.attack, arguments.seconds))
    finally:
        process.terminate()
        process.wait()
    from snow.experiments.results.record import provenance  # imports torch, which an attacker does not need

    arguments.out.write_text(json.dumps({**provenance(), **results}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
