"""Processes of their own, in turn, and what they hold."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from calls import MEGABYTE, held, refuse, want

from snow.errors import SnowError
from snow.experiments.results.table import Spread
from snow.process.subprocesses import interleaved

T = TypeVar("T")


def test_calls_are_made_in_turn_in_processes_of_their_own() -> None:
    told: list[str] = []
    kept = bytearray(b"x") * (300 * MEGABYTE)  # of which a child must know nothing
    *_, found = interleaved({"small": partial(held, 20), "large": partial(held, 120)}, 2, told.append)
    assert [line.split()[-2] for line in told] == ["small", "large", "small", "large"]
    assert len({process for results in found.values() for process, _ in results} | {os.getpid()}) == 5
    for _, peak in found["small"]:
        assert 18 * MEGABYTE <= peak < 60 * MEGABYTE
    for _, peak in found["large"]:
        assert 118 * MEGABYTE <= peak < 200 * MEGABYTE
    assert len(kept) == 300 * MEGABYTE


def test_a_refusal_comes_back_and_a_death_is_named() -> None:
    with pytest.raises(SnowError, match="no such thing"):
        list(interleaved({"a": refuse}, 1))
    with pytest.raises(SnowError, match="the process that measured b died.*smaller batch"):
        list(interleaved({"b": partial(os._exit, 9)}, 1))


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux which processes live")
def test_a_measurement_ends_with_the_process_that_wants_it(tmp_path: Path) -> None:
    wanting = multiprocessing.get_context("spawn").Process(target=want, args=(tmp_path / "process",))
    wanting.start()
    measuring = int(eventually(lambda: (tmp_path / "process").read_text("utf-8") or None))
    wanting.kill()
    wanting.join()
    eventually(lambda: True if not is_alive(measuring) else None)


def eventually(find: Callable[[], T | None]) -> T:
    """What `find` gives once it gives something."""
    for _ in range(600):
        with suppress(OSError):
            if (found := find()) is not None:
                return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text("utf-8").rpartition(") ")[2][0] != "Z"


def test_a_spread_holds_the_median_and_the_range() -> None:
    spread = Spread.of([3.0, 1.0, 10.0])
    assert (spread.median, spread.range) == (3.0, (1.0, 10.0))
