"""A hub served by several processes on a Ray cluster of this machine: tasks come and go in all, and one may be lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from on_ray import below, own_cluster, parents, titled

from snow.hub import Artifact, Hub

httpx = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")

if not Path("/proc/self/stat").exists():
    pytest.skip("looks for processes in /proc", allow_module_level=True)

pytestmark = pytest.mark.ray

PATIENCE = 120
MANAGER = {"Authorization": "Bearer secret"}


def replicas(root: int) -> list[int]:
    return titled(root, b"ray::ServeReplica")


@contextmanager
def serving(hub: Path, *options: str) -> Generator[tuple[subprocess.Popen[bytes], str, Path]]:
    """`snow serve --engine ray` with a cluster of its own, where it answers, and what it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(hub), "--engine", "ray", "--port", str(port), *options]
    started: set[int] = set()
    with own_cluster() as environment, tempfile.NamedTemporaryFile() as out:
        said = Path(out.name)
        environment["SNOW_TOKEN"] = "secret"
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_for(lambda: process.poll() is not None or " answer on " in said.read_text(), said)
            assert process.poll() is None, said.read_text()
            started |= set(below(process.pid))
            yield process, f"http://127.0.0.1:{port}", said
        finally:
            started |= set(below(process.pid))
            process.kill()
            process.wait()
            for one in started & parents().keys():
                os.kill(one, signal.SIGKILL)


def wait_for(condition: Callable[[], object], said: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.05)


class Clients:
    """Four that ask one picture after the other, until they are refused or told to stop."""

    def __init__(self, url: str, picture: bytes, task: str) -> None:
        self.found: list[Any] = []
        self._url, self._picture, self._task, self._going = f"{url}/v1/predict", picture, task, True
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        status = 200
        with httpx.Client(timeout=PATIENCE) as client:
            while self._going and status == 200:
                response = client.post(self._url, content=self._picture, params={"tasks": self._task, "top_k": 1})
                status = response.status_code
                self.found.append((status, response.text))

    def stop(self) -> None:
        self._going = False
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def test_two_replicas_share_tasks_and_lose_no_request_when_one_dies_or_all_stop(
    hub: Hub, canary: Callable[..., Artifact], jpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    picture = jpeg()
    canary("elsewhere", 1).save(tmp_path / "elsewhere")
    files = [("file", (path.name, path.read_bytes())) for path in (tmp_path / "elsewhere").iterdir()]
    options = ("--replicas", "2", "--poll", "0.1", "--max-wait", "100", "--deadline", str(PATIENCE))
    with serving(hub.path, *options) as (process, url, said):
        before = replicas(process.pid)
        assert len(before) == 2

        def all_say(status: int) -> bool:
            """Chance decides who is asked: of two that differ, one would be met."""
            return all(httpx.get(f"{url}/v1/tasks/canary", timeout=PATIENCE).status_code == status for _ in range(20))

        wait_for(lambda: all_say(404), said)
        assert httpx.put(f"{url}/v1/tasks/canary", files=files, headers=MANAGER, timeout=PATIENCE).status_code == 201
        wait_for(lambda: all_say(200), said)

        clients = Clients(url, picture, "canary")
        try:
            wait_for(lambda: len(clients.found) >= 8, said)
            os.kill(before[0], signal.SIGSTOP)  # until it has requests that it will never answer
            time.sleep(1)
            os.kill(before[0], signal.SIGKILL)
            killed = len(clients.found)
            wait_for(lambda: len(clients.found) >= killed + 20, said)
            wait_for(lambda: len({*replicas(process.pid)} - {before[0]}) == 2, said)
        finally:
            clients.stop()
        assert [one for one in clients.found if one[0] != 200] == []
        assert all('"class":"one"' in text for _, text in clients.found)

        assert httpx.delete(f"{url}/v1/tasks/canary", headers=MANAGER, timeout=PATIENCE).status_code == 204
        wait_for(lambda: all_say(404), said)

        clients = Clients(url, picture, "learned")
        wait_for(lambda: len(clients.found) >= 4, said)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: "answering accepted requests" in said.read_text(), said)
        clients.join()
        assert process.wait(PATIENCE) == 0, said.read_text()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/readyz")
        refused = [one for one in clients.found if one[0] != 200]
        assert [status for status, text in refused if '"unavailable"' in text] == [503] * 4
