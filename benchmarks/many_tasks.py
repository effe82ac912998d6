"""Measure a hub with many tasks: how long its commands take, the service until it is ready, and its list of tasks.

The hub holds tasks that have learned nothing on the embedded source, with 2 to 41 classes and two numbers of channels,
and copies of them under other names.

    python benchmarks/many_tasks.py --tasks 300 --out benchmarks/results/many-tasks.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from snow import Artifact, Hub, Source
from snow.experiments.results.record import provenance
from snow.methods import METHODS
from snow.store import atomic_file, write_json

SNOW = (sys.executable, "-m", "snow")
KINDS = 40
"""Tasks that are no copies; each has another number of classes."""
ROUNDS = 15
BROWSERS = 3
POLL_SECONDS = 2.0


def make_hub(path: Path, tasks: int, size: int) -> None:
    """Make a hub with `tasks` tasks, `t0000` and so on."""
    source = Source.embedded(size)
    torch.manual_seed(0)
    hub = Hub.create(path, source)
    for number in range(tasks):
        name, classes = f"t{number:04}", tuple(f"class {index}" for index in range(2 + number % KINDS))
        if number >= KINDS:
            shutil.copytree(hub.folder(f"t{number % KINDS:04}"), hub.folder(name))
            continue
        options = {"keep": 0.125 * (1 + number % 2)}
        method = METHODS["snow"].build(source, len(classes), options).export_form()
        hub.add(Artifact(name, classes, method, source.description(), {"test": {"top1": 0.5}}))


def run_command(*arguments: object) -> float:
    """Run a command of snow. Returns its seconds."""
    started = time.perf_counter()
    subprocess.run([*SNOW, *map(str, arguments)], check=True, capture_output=True)
    return round(time.perf_counter() - started, 2)


def request(url: str, content: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[float, int, str]:
    """Send one request. Returns its seconds, the status and the ETag."""
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers or {}), timeout=60) as response:
            response.read()
            return time.perf_counter() - started, response.status, response.headers.get("ETag", "")
    except urllib.error.HTTPError as error:
        return time.perf_counter() - started, error.code, ""


@contextmanager
def served(hub: Path) -> Iterator[tuple[str, float]]:
    """Serve a hub in a process of its own. Yields its address, and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.perf_counter()
    process = subprocess.Popen([*SNOW, "serve", str(hub), "--port", url.rpartition(":")[2]], stderr=subprocess.DEVNULL)
    try:
        while not _is_ready(url):
            if process.poll() is not None:
                raise RuntimeError("the service does not start")
            time.sleep(0.02)
        yield url, round(time.perf_counter() - started, 2)
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return request(f"{url}/readyz")[1] == 200
    except OSError:
        return False


@contextmanager
def browsers(url: str) -> Iterator[None]:
    """Poll the list of tasks as open pages do."""
    closed = threading.Event()

    def poll() -> None:
        tag = ""
        while not closed.is_set():
            tag = request(f"{url}/v1/tasks", headers={"If-None-Match": tag} if tag else {})[2] or tag
            closed.wait(POLL_SECONDS)

    threads = [threading.Thread(target=poll) for _ in range(BROWSERS)]
    for thread in threads:
        thread.start()
    yield
    closed.set()
    for thread in threads:
        thread.join()


def measure_service(hub: Path, picture: Path) -> dict[str, Any]:
    """Measure the service: seconds until ready, milliseconds of the requests that a page sends."""
    content, headers = picture.read_bytes(), {"Content-Type": "image/jpeg"}
    with served(hub) as (url, ready):
        _, _, tag = request(f"{url}/v1/tasks")

        def median_ms(path: str, body: bytes | None = None, more: dict[str, str] | None = None) -> float:
            answers = [request(url + path, body, more) for _ in range(ROUNDS)]
            if any(status not in (200, 304) for _, status, _ in answers):
                raise RuntimeError(f"{path} is answered {answers[0][1]}")
            return round(1e3 * median(seconds for seconds, _, _ in answers), 1)

        first_seconds, _, _ = request(f"{url}/v1/predict", content, headers)  # while the service prepares its tasks
        results = {
            "ready_seconds": ready,
            "predict_all_first_ms": round(1e3 * first_seconds, 1),
            "predict_all_ms": median_ms("/v1/predict", content, headers),
            "list_ms": median_ms("/v1/tasks"),
            "list_unchanged_ms": median_ms("/v1/tasks", None, {"If-None-Match": tag}),
            "details_ms": median_ms("/v1/tasks/t0000"),
            "metrics_ms": median_ms("/metrics"),
            "predict_one_ms": median_ms("/v1/predict?tasks=t0000", content, headers),
        }
        with browsers(url):
            results["predict_one_beside_three_pages_ms"] = median_ms("/v1/predict?tasks=t0000", content, headers)
    return results


def measure_hub(path: Path, picture: Path) -> dict[str, float]:
    """Measure `Hub.predict` of all tasks in this process. The first answer reads and prepares them."""
    started = time.perf_counter()
    hub = Hub.open(path)
    hub.predict(picture)
    first, seconds = time.perf_counter() - started, []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        hub.predict(picture)
        seconds.append(time.perf_counter() - started)
    return {"first_predict_seconds": round(first, 2), "predict_seconds": round(median(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hub, picture = Path(folder) / "hub", Path(folder) / "picture.jpg"
        make_hub(hub, arguments.tasks, arguments.image_size)
        Image.effect_noise((320, 240), 80).convert("RGB").save(picture)
        results: dict[str, Any] = {
            "tasks": arguments.tasks,
            "image_size": arguments.image_size,
            "hub_list_seconds": run_command("hub", "list", hub),
            "predict_seconds": run_command("predict", hub, picture),
            "overlap_seconds": run_command("overlap", hub),
            "verify_seconds": run_command("hub", "verify", hub),
            "in_process": measure_hub(hub, picture),
            "service": measure_service(hub, picture),
            "load_average": os.getloadavg()[0],
            **provenance(),
        }
    print(json.dumps(results, indent=2))
    if arguments.out:
        with atomic_file(arguments.out) as new:
            write_json(new, results)


if __name__ == "__main__":
    main()
