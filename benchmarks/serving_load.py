"""Load a service: throughput compared with the engine alone, latency at 70 % load, and behaviour under overload.

`python benchmarks/serving_load.py my-hub --out results.json` serves the hub on this machine, in a process of its
own, and loads it from this process. Pictures are generated and encoded before anything is measured.

- **engine**: `snow.serving.worker` in this process with full batches, before the service starts.
- **capacity**: as many clients as fill two batches, each sending a new request after every answer.
- **latency**: Poisson arrivals at 70 % of the capacity.
- **overload**: Poisson arrivals at three times the capacity. Every request must be answered or refused, and the memory
  of the service must not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any

import httpx2 as httpx
import torch
from PIL import Image

from snow.data import eval_transform
from snow.experiments.results.record import provenance
from snow.hub import Hub
from snow.process.startup import keep_freed_memory
from snow.serving.decoding import decode_picture
from snow.serving.worker import Worker

PICTURES = 64
TIMEOUT = 30.0


def pictures(width: int, height: int) -> list[bytes]:
    """Generate JPEG files with some structure, about as large as photographs."""
    generator = torch.Generator().manual_seed(0)
    files = []
    for _ in range(PICTURES):
        coarse = torch.randint(0, 256, (1, 3, height // 8, width // 8), generator=generator).float()
        pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
        file = io.BytesIO()
        Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def engine_alone(hub: Path, contents: Sequence[bytes], batch: int, seconds: float) -> float:
    """Measure pictures/s of the engine for all tasks, on decoded pictures."""
    opened = Hub.open(hub)
    worker = Worker(opened)
    names = list(worker.refresh().usable)
    transform = eval_transform(opened.source.preprocessing)
    images = [decode_picture(content, 0, transform, 10**9) for content in (list(contents) * batch)[:batch]]
    worker.predict(images, [names] * batch)
    count, begun = 0, time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        worker.predict(images, [names] * batch)
        count += batch
    return count / took


class Load:
    """Sends requests, and records when each began, how long it took and how it ended."""

    def __init__(self, client: Any, contents: Sequence[bytes]) -> None:
        self._client, self._contents = client, contents
        self.records: list[tuple[float, float, str]] = []
        self.timings: list[dict[str, float]] = []

    async def ask(self, number: int) -> None:
        begun = time.perf_counter()
        try:
            response = await self._client.post("/v1/predict?top_k=1", content=self._contents[number % PICTURES])
            code = "answered" if response.status_code == 200 else response.json()["error"]["code"]
            if code == "answered":
                self.timings.append(response.json()["timing"])
        except httpx.TransportError as error:
            code = f"lost: {type(error).__name__}"
        self.records.append((begun, time.perf_counter() - begun, code))

    async def closed(self, clients: int, seconds: float) -> None:
        """Run clients that each send a new request after every answer."""
        until = time.perf_counter() + seconds

        async def one(number: int) -> None:
            while time.perf_counter() < until:
                await self.ask(number)
                number += clients

        await asyncio.gather(*(one(number) for number in range(clients)))

    async def opened(self, rate: float, seconds: float) -> None:
        """Send requests as a Poisson process, without waiting for answers."""
        chance, running, number = random.Random(0), set(), 0
        moment = time.perf_counter()
        until = moment + seconds
        while moment < until:
            moment += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            task = asyncio.create_task(self.ask(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)

    def summary(self) -> dict[str, Any]:
        """Summarise the load: latencies in milliseconds, throughput from the first request to the last answer.

        `batch` is the average pictures per pass.
        """
        latencies = sorted(1000 * seconds for _, seconds, code in self.records if code == "answered")
        first = min(begun for begun, _, _ in self.records)
        last = max(begun + seconds for begun, seconds, code in self.records if code == "answered")

        def at(quantile: float) -> float:
            return round(latencies[min(len(latencies) - 1, int(quantile * len(latencies)))], 2)

        return {
            "requests": len(self.records),
            "ended": dict(Counter(code for *_, code in self.records)),
            "per_second": round(len(latencies) / (last - first), 2),
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "batch": round(len(latencies) / sum(1 / timing["batch"] for timing in self.timings), 2),
            "passes": self.passes(),
            "timing": {
                name: round(median(timing[name] for timing in self.timings), 2)
                for name in ("decode", "queue", "engine")
            },
        }

    def passes(self) -> dict[str, dict[str, float]]:
        """Summarise batch size -> number of passes and their median milliseconds."""
        milliseconds: dict[int, list[float]] = {}
        for timing in self.timings:
            milliseconds.setdefault(int(timing["batch"]), []).append(timing["engine"])
        return {
            str(size): {"passes": round(len(times) / size), "engine": round(median(times), 2)}
            for size, times in sorted(milliseconds.items())
        }


async def measured(
    client: Any, contents: Sequence[bytes], load: Callable[[Load], Awaitable[None]], process: int
) -> dict[str, Any]:
    """Run one load, and measure the memory of the service before it, at its peak, and after it."""
    one = Load(client, contents)
    before = most = resident(process)
    work = asyncio.ensure_future(load(one))
    while not work.done():
        await asyncio.wait([work], timeout=0.5)
        most = max(most, resident(process))
    await work
    return {**one.summary(), "memory_bytes": {"before": before, "most": most, "after": resident(process)}}


def resident(process: int) -> int:
    """Resident bytes of a process; 0 if the system does not report them."""
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


async def run(options: argparse.Namespace) -> dict[str, Any]:
    contents = pictures(options.width, options.height)
    alone = engine_alone(options.hub, contents, options.max_batch, options.seconds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(options.hub), "--port", str(port)]
    command += ["--max-batch", str(options.max_batch), "--max-wait", str(options.max_wait)]
    command += ["--queue", str(options.queue), "--max-pictures", "1"]
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits) as client:
            await until_ready(client, service)
            tasks = (await client.get("/v1/tasks")).json()["tasks"]
            clients = 2 * options.max_batch
            await Load(client, contents).closed(clients, min(3.0, options.seconds))
            capacity = await measured(client, contents, lambda load: load.closed(clients, options.seconds), service.pid)
            rate = capacity["per_second"]
            usual = await measured(client, contents, lambda load: load.opened(0.7 * rate, options.seconds), service.pid)
            overload = await measured(
                client, contents, lambda load: load.opened(3 * rate, options.overload_seconds), service.pid
            )
            healthy = (await client.get("/healthz")).status_code == 200
    finally:
        service.terminate()
        code = service.wait(60)
    return {
        **provenance(),
        "tasks": len(tasks),
        "picture": {"width": options.width, "height": options.height, "bytes": round(fmean(map(len, contents)))},
        "max_batch": options.max_batch,
        "max_wait_ms": options.max_wait,
        "queue": options.queue,
        "engine_per_second": round(alone, 2),
        "capacity": {**capacity, "of_engine": round(rate / alone, 3)},
        "at_70_percent": {**usual, "p99_by_p50": round(usual["p99"] / usual["p50"], 2)},
        "at_300_percent": overload,
        "healthy_afterwards": healthy,
        "exit_code": code,
    }


async def until_ready(client: Any, service: subprocess.Popen[bytes]) -> None:
    while True:
        with suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        if service.poll() is not None:
            raise SystemExit(f"snow serve ended with {service.returncode}")
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hub", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the first three measurements")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--max-wait", type=float, default=4.0, help="milliseconds")
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the service does
    text = json.dumps(asyncio.run(run(options)), indent=2)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
