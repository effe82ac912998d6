"""Requests to `snow serve` in a process of its own: what one costs beside its pass, and what many do to passes."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from urllib.parse import urlencode

import torch
from PIL import Image

from snow.errors import SnowError

SINGLE = 20
"""Requests, one after the other, whose median is taken."""

FRACTIONS = (0.2, 0.45, 0.7)
"""Loads as fractions of the capacity that passes and single requests let one expect."""

REQUESTS, LEAST, LOAD_SECONDS = 60, 8, 6.0
"""Requests per load and round: at most, at least, and the time that more than the least may take."""

WARM_UP = 3
"""Rounds of the highest rate before anything is measured: the automatic engine chooses its forms meanwhile."""

CLIENTS = 64
"""Requests that may be under way at once."""

START_SECONDS = 300
"""Time for the service to start: some engines are calibrated then."""

TIMEOUT_SECONDS = 60
"""Time for the service to answer."""


class Answer(NamedTuple):
    """What one answer took, in seconds; `handling` is all that is neither decoding nor waiting nor the pass.

    `batch` is the number of pictures in the pass.
    """

    decode: float
    handling: float
    engine: float
    batch: int


def measure_requests(
    path: Path,
    engine: str,
    device: str,
    by_count: Mapping[int, Sequence[str]],
    frame: tuple[int, int],
    pass_seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Serve a hub, send requests of one picture, and return JSON values.

    Args:
        by_count: names of tasks to ask, by their number.
        frame: width and height in pixels of the pictures.
        pass_seconds: time of a picture with the most tasks in a full batch.
        rounds: each has up to `REQUESTS` requests at every rate. Rates take turns, because a machine's speed drifts.

    Raises:
        SnowError: the service does not start, or refuses a request.
    """
    content = jpeg(*frame)
    with _serving(path, engine, device) as port, ExitStack() as stack:
        idle = [HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS) for _ in range(CLIENTS)]
        for connection in idle:
            stack.callback(connection.close)
        single = []
        for count, names in by_count.items():
            answers = [_ask(idle, _path(names), content) for _ in range(SINGLE)]
            single.append({"tasks": count, **_medians(answers)})
        most = max(by_count)
        last = next(entry for entry in single if entry["tasks"] == most)
        capacity = 1 / (pass_seconds + last["decode_seconds"] + last["handling_seconds"])
        rates = [fraction * capacity for fraction in FRACTIONS]
        answers = _send_rounds(partial(_ask, idle, _path(by_count[most]), content), rates, rounds)
    loads = [
        {"per_second": rate, **_medians(found), "passes": _passes(found)}
        for rate, found in zip(rates, answers, strict=True)
    ]
    return {"requests": single, "loads": {"tasks": most, "rates": loads}}


def _medians(answers: Sequence[Answer]) -> dict[str, float]:
    return {
        "decode_seconds": median(answer.decode for answer in answers),
        "handling_seconds": max(0.0, median(answer.handling for answer in answers)),
    }


def _passes(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Collect the passes by their pictures. Each of the pictures of a pass tells its time."""
    by_size: dict[int, list[float]] = {}
    for answer in answers:
        by_size.setdefault(answer.batch, []).append(answer.engine)
    return [
        {"pictures": size, "samples": [round(value, 6) for value in sorted(seconds)[::size]]}
        for size, seconds in sorted(by_size.items())
    ]


def _send_rounds(ask: Callable[[], Answer], rates: Sequence[float], rounds: int) -> list[list[Answer]]:
    """Send all requests, and return the answers for each rate."""
    answers: list[list[Answer]] = [[] for _ in rates]
    chance = random.Random(0)
    with ThreadPoolExecutor(CLIENTS) as threads:

        def send(rate: float) -> list[Answer]:
            """Send requests as a Poisson process of this rate, and wait for all answers."""
            moment, running = time.perf_counter(), []
            for _ in range(min(REQUESTS, max(LEAST, round(LOAD_SECONDS * rate)))):
                moment += chance.expovariate(rate)
                time.sleep(max(0.0, moment - time.perf_counter()))
                running.append(threads.submit(ask))
            return [future.result() for future in running]

        for _ in range(WARM_UP):
            send(rates[-1])
        for _ in range(rounds):
            for rate, found in zip(rates, answers, strict=True):
                found += send(rate)
    return answers


def _ask(idle: list[HTTPConnection], path: str, content: bytes) -> Answer:
    """Send one request on an idle connection."""
    connection = idle.pop()
    try:
        took, status, body = _post(connection, path, content)
    except ConnectionError:  # it was idle for longer than the service waits
        connection.close()
        took, status, body = _post(connection, path, content)
    idle.append(connection)
    if status != HTTPStatus.OK:
        raise SnowError(f"the service refused a request that is measured, with {status}: {body[:200]!r}")
    timing = json.loads(body)["timing"]
    decode, queue, engine = (timing[name] / 1000 for name in ("decode", "queue", "engine"))
    return Answer(decode, took - decode - queue - engine, engine, int(timing["batch"]))


def _post(connection: HTTPConnection, path: str, content: bytes) -> tuple[float, int, bytes]:
    """Send one request, and return its seconds, status and body."""
    started = time.perf_counter()
    connection.request("POST", path, content, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    body = response.read()
    return time.perf_counter() - started, response.status, body


def _path(names: Sequence[str]) -> str:
    """Path of a request for these tasks."""
    return "/v1/predict?" + urlencode({"tasks": ",".join(names)}, safe=",")


@contextmanager
def _serving(path: Path, engine: str, device: str) -> Generator[int]:
    """Run `snow serve`, and yield its port once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(path), "--port", str(port)]
    command += ["--engine", engine, "--device", device]
    environment = {name: value for name, value in os.environ.items() if name != "SNOW_TOKEN"}
    with (
        TemporaryFile() as told,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env=environment) as service,
    ):
        try:
            until = time.monotonic() + START_SECONDS
            while not _ready(port):
                if service.poll() is not None or time.monotonic() > until:
                    told.seek(0)
                    reason = told.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise SnowError(
                        f"the service that is measured does not start: {reason or 'it is not ready in time'}"
                    )
                time.sleep(0.1)
            yield port
        finally:
            service.terminate()


def _ready(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection, suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    return False


def jpeg(width: int, height: int) -> bytes:
    """Draw a JPEG file with some structure, so that it is about as large as a photograph."""
    coarse = torch.randint(0, 256, (1, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse.float(), (height, width), mode="bicubic").clamp(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()
