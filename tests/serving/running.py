"""`snow serve` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx2")

PATIENCE = 90


@contextmanager
def running(hub: Path, *options: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`snow serve`, and where it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(hub), "--port", str(port), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SNOW_TOKEN": "secret"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while True:
            try:
                assert httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                assert time.monotonic() < until
                time.sleep(0.1)
        yield process, url
    finally:
        process.kill()
        process.communicate()
