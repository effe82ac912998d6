"""What the service takes: a pass by pictures and by tasks, and a request beside its pass."""

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
from snow.inference.prediction import SOURCE_HEAD
from snow.process.memory import resident_bytes
from snow.serving.limits import Limits
from snow.serving.worker import Worker

SIZES = (1, 4, 16)
"""Pictures in the passes that are measured."""

ASKED = 20
"""Requests whose median counts."""

SECONDS = 60
"""For the service to start, to answer and to stop."""

FRAME = (640, 480)
"""Width and height of the pictures that are sent."""


def service_cost(
    path: Path,
    engine: str,
    device: str,
    tasks: Sequence[int],
    sizes: Sequence[int] = SIZES,
    rounds: int = 5,
    frame: tuple[int, int] = FRAME,
) -> dict[str, Any]:
    """Measures a hub in this process, through the service's own `Worker`, and returns JSON values.

    Args:
        tasks: how many are asked about every picture; the source's own head is asked besides, as 0 tasks.
        sizes: pictures in a pass.
        rounds: in each of which every pass is measured, small ones several times.
        frame: as `FRAME`.

    Raises:
        SnowError: the hub has fewer tasks, or no pass or no picture is asked for; as `Hub.open`.
    """
    if not tasks or not sizes or min(*tasks, *sizes, rounds) < 1:
        raise SnowError("a measurement takes at least one task, one picture and one round")
    web = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn"))
    if web:
        import snow.serving.server  # noqa: F401  a service holds it in memory
    hub = Hub.open(path, engine=engine)
    worker = Worker(hub, device)
    names = list(worker.refresh().tasks)
    if len(names) < max(tasks):
        raise SnowError(f"hub {path.name} has {len(names)} tasks that can answer, not {max(tasks)}")
    size = hub.source.preprocessing.image_size
    images = list(torch.randint(256, (max(sizes), 3, size, size), dtype=torch.uint8))
    asked = {0: [SOURCE_HEAD], **{count: names[:count] for count in sorted(tasks)}}
    held: dict[str, int] = {}
    for count, wanted in asked.items():
        for one in sizes:
            _pass(worker, images[:one], wanted)
        held[str(count)] = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
    took: dict[tuple[int, int], list[float]] = {(one, count): [] for count in asked for one in sizes}
    for _ in range(rounds):
        for (one, count), seconds in took.items():
            seconds += [_pass(worker, images[:one], asked[count]) for _ in range(min(8, -(-max(sizes) // one)))]
    return {
        "threads": torch.get_num_threads(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "passes": [
            {"pictures": one, "tasks": count, "seconds": median(seconds), "samples": seconds}
            for (one, count), seconds in took.items()
        ],
        "resident_bytes": resident_bytes(),
        "device_bytes": held if device.startswith("cuda") else None,
        "requests": _requests(hub, device, {count: asked[count] for count in tasks}, frame) if web else None,
    }


def _pass(worker: Worker, images: list[Tensor], wanted: list[str]) -> float:
    """Seconds. The answers are on the CPU, so that the device has been waited for."""
    started = time.perf_counter()
    worker.answer(images, [wanted] * len(images))
    return time.perf_counter() - started


def _requests(
    hub: Hub, device: str, asked: Mapping[int, Sequence[str]], frame: tuple[int, int]
) -> list[dict[str, float]]:
    """By tasks the seconds that a picture takes to decode, and the rest of its request: one at a time, over HTTP."""
    content = jpeg(*frame)
    with _serving(hub, device) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        try:
            return [{"tasks": count, **_request(client, content, names)} for count, names in asked.items()]
        finally:
            client.close()


def _request(client: http.client.HTTPConnection, content: bytes, names: Sequence[str]) -> dict[str, float]:
    """Medians."""
    path = "/v1/predict?" + urlencode({"tasks": ",".join(names)}, safe=",")
    decode, handling = [], []
    for _ in range(ASKED):
        started = time.perf_counter()
        client.request("POST", path, content, {"Content-Type": "image/jpeg"})
        response = client.getresponse()
        body = response.read()
        took = time.perf_counter() - started
        if response.status != http.HTTPStatus.OK:
            raise SnowError(f"the service refused what was to be measured, with {response.status}: {body[:200]!r}")
        timing = json.loads(body)["timing"]
        decode.append(timing["decode"] / 1000)
        handling.append(took - sum(timing[name] for name in ("decode", "queue", "engine")) / 1000)
    return {"decode_seconds": median(decode), "handling_seconds": max(0.0, median(handling))}


@contextmanager
def _serving(hub: Hub, device: str) -> Generator[int]:
    """A service on a thread of this process, and its port."""
    import uvicorn

    from snow.serving.app import create_app
    from snow.serving.service import Service

    app = create_app(Service(hub, Limits(max_wait=0.0), device))
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
    # the protocol is named so that asyncio knows it, and sends what it is given at once
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            until = time.monotonic() + SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > until:
                    raise SnowError("the service that was to be measured does not start")
                time.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(SECONDS)


def jpeg(width: int, height: int) -> bytes:
    """A picture with some structure, so that it is about as large as a photograph."""
    coarse = torch.randint(0, 256, (1, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse.float(), (height, width), mode="bicubic").clamp(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()
