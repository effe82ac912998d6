"""Cost of the service: seconds of a pass by pictures and tasks, and of a request beside its pass."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import os
import socket
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import torch
from PIL import Image
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Hub
from snow.inference import SOURCE_HEAD
from snow.process.memory import resident_bytes
from snow.serving.limits import Limits
from snow.serving.worker import Worker

SIZES = (1, 4, 16)
"""Batch sizes that are measured."""

REQUESTS = 20
"""Requests whose median is taken."""

TIMEOUT_SECONDS = 60
"""Time for the service to start, to answer and to stop."""

FRAME = (640, 480)
"""Width and height in pixels of the pictures that are sent."""


def service_cost(
    path: Path,
    engine: str,
    device: str,
    tasks: Sequence[int],
    sizes: Sequence[int] = SIZES,
    rounds: int = 5,
    frame: tuple[int, int] = FRAME,
) -> dict[str, Any]:
    """Measure a hub in this process, through the service's own `Worker`, and return JSON values.

    Args:
        tasks: numbers of tasks to ask about every picture; the source's own head is measured too, as 0 tasks.
        sizes: batch sizes.
        rounds: in each round every pass is measured, and small ones several times.
        frame: width and height in pixels of the pictures that are sent.

    Raises:
        SnowError: the hub has too few tasks, or there is nothing to measure; and as `Hub.open`.
    """
    if not tasks or not sizes or min(*tasks, *sizes, rounds) < 1:
        raise SnowError("a measurement takes at least one task, one picture and one round")
    web = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn"))
    if web:
        import snow.serving.server  # noqa: F401  a service has these modules in memory
    hub = Hub.open(path, engine=engine)
    worker = Worker(hub, device)
    names = list(worker.refresh().usable)
    if len(names) < max(tasks):
        raise SnowError(f"hub {path.name} has {len(names)} tasks that can answer, not {max(tasks)}")
    side = hub.source.preprocessing.image_size
    images = list(torch.randint(256, (max(sizes), 3, side, side), dtype=torch.uint8))
    by_count = {0: [SOURCE_HEAD], **{count: names[:count] for count in sorted(tasks)}}
    memory: dict[str, int] = {}
    for count, names in by_count.items():
        for size in sizes:
            _pass(worker, images[:size], names)
        memory[str(count)] = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
    took: dict[tuple[int, int], list[float]] = {(size, count): [] for count in by_count for size in sizes}
    for _ in range(rounds):
        for (size, count), seconds in took.items():
            seconds += [_pass(worker, images[:size], by_count[count]) for _ in range(min(8, -(-max(sizes) // size)))]
    return {
        "threads": torch.get_num_threads(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "passes": [
            {"pictures": size, "tasks": count, "seconds": median(seconds), "samples": seconds}
            for (size, count), seconds in took.items()
        ],
        "resident_bytes": resident_bytes(),
        "device_bytes": memory if device.startswith("cuda") else None,
        "requests": _requests(hub, device, {count: by_count[count] for count in tasks}, frame) if web else None,
    }


def _pass(worker: Worker, images: list[Tensor], names: list[str]) -> float:
    """Time one pass, in seconds. Predictions are on the CPU, so that the device has finished."""
    started = time.perf_counter()
    worker.predict(images, [names] * len(images))
    return time.perf_counter() - started


def _requests(
    hub: Hub, device: str, by_count: Mapping[int, Sequence[str]], frame: tuple[int, int]
) -> list[dict[str, float]]:
    """Time requests of one picture, one after the other: decoding, and all beside decoding and pass, in seconds."""
    content = jpeg(*frame)
    with _serving(hub, device) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        try:
            return [{"tasks": count, **_request(client, content, names)} for count, names in by_count.items()]
        finally:
            client.close()


def _request(client: http.client.HTTPConnection, content: bytes, names: Sequence[str]) -> dict[str, float]:
    """Send requests for these tasks, and return the medians."""
    path = "/v1/predict?" + urlencode({"tasks": ",".join(names)}, safe=",")
    decode, handling = [], []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.request("POST", path, content, {"Content-Type": "image/jpeg"})
        response = client.getresponse()
        body = response.read()
        took = time.perf_counter() - started
        if response.status != http.HTTPStatus.OK:
            raise SnowError(f"the service refused the request that is measured, with {response.status}: {body[:200]!r}")
        timing = json.loads(body)["timing"]
        decode.append(timing["decode"] / 1000)
        handling.append(took - sum(timing[name] for name in ("decode", "queue", "engine")) / 1000)
    return {"decode_seconds": median(decode), "handling_seconds": max(0.0, median(handling))}


@contextmanager
def _serving(hub: Hub, device: str) -> Generator[int]:
    """Run a service on a thread of this process, and yield its port."""
    import uvicorn

    from snow.serving.app import create_app
    from snow.serving.service import Service

    app = create_app(Service(hub, Limits(max_wait=0.0), device))
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
    # with the protocol named, asyncio sets TCP_NODELAY
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            until = time.monotonic() + TIMEOUT_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > until:
                    raise SnowError("the service that is measured does not start")
                time.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(TIMEOUT_SECONDS)


def jpeg(width: int, height: int) -> bytes:
    """Draw a JPEG file with some structure, so that it is about as large as a photograph."""
    coarse = torch.randint(0, 256, (1, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse.float(), (height, width), mode="bicubic").clamp(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()
