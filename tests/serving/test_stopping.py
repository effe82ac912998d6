"""A service in a process of its own: signals, and what stays on the disk."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from snow.hub import Hub

httpx = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")

from running import PATIENCE, running  # noqa: E402  what it needs may not be installed


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_it_when_all_that_was_accepted_is_answered(
    hub: Hub, jpeg: Callable[..., bytes], number: signal.Signals
) -> None:
    """The batches gather for so long that the signal comes before any is answered, unless the machine is busy."""
    options = ("--max-wait", "1500", "--deadline", "1000", "--poll", "0.05")
    with running(hub.path, *options) as (process, url):
        found: list[Any] = []

        def accepted() -> int:
            metrics = httpx.get(f"{url}/metrics", timeout=PATIENCE).text
            [waiting] = re.findall(r"^snow_queue_pictures (\S+)$", metrics, re.MULTILINE)
            return int(float(waiting)) + len(found)

        def ask(seed: int) -> None:
            found.append(httpx.post(f"{url}/v1/predict", content=jpeg(seed), timeout=PATIENCE))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + PATIENCE
        while accepted() < len(threads):
            assert time.monotonic() < until
        process.send_signal(number)
        for thread in threads:
            thread.join()
        assert [one.status_code for one in found] == [200] * 6
        assert process.wait(PATIENCE) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/readyz")
