"""Cost of the service: seconds of passes by themselves and under load, and of a request beside its pass."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.experiments.bench.requests import measure_requests
from snow.hub import Hub
from snow.inference import SOURCE_HEAD
from snow.process.memory import resident_bytes
from snow.serving.worker import Worker

SIZES = (1, 4, 16)
"""Batch sizes that are measured."""

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
    """Measure passes of a hub in this process, through the service's own `Worker`, and requests to `snow serve`.

    Returns JSON values; requests and loads are null where the extra `serve` is not installed.

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
    cost = {
        "threads": torch.get_num_threads(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "passes": [
            {"pictures": size, "tasks": count, "seconds": median(seconds), "samples": seconds}
            for (size, count), seconds in took.items()
        ],
        "resident_bytes": resident_bytes(),
        "device_bytes": memory if device.startswith("cuda") else None,
        "requests": None,
        "loads": None,
    }
    if web:
        full = median(took[max(sizes), max(tasks)]) / max(sizes)
        cost |= measure_requests(path, engine, device, {n: by_count[n] for n in sorted(tasks)}, frame, full, rounds)
    return cost


def _pass(worker: Worker, images: list[Tensor], names: list[str]) -> float:
    """Time one pass, in seconds. Predictions are on the CPU, so that the device has finished."""
    started = time.perf_counter()
    worker.predict(images, [names] * len(images))
    return time.perf_counter() - started
