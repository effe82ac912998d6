"""Interleaved calls in fresh processes, and their peak memory."""

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
from calls import MEGABYTE, measure_for_ever, measure_peak, refuse

from snow.errors import SnowError
from snow.experiments.results.table import Spread
from snow.process.subprocesses import interleaved

T = TypeVar("T")


def test_calls_are_made_in_turn_in_processes_of_their_own() -> None:
    lines: list[str] = []
    *_, results = interleaved({"one": os.getpid, "other": os.getpid}, 2, lines.append)
    assert [line.split()[-2] for line in lines] == ["one", "other", "one", "other"]
    assert len({process for calls in results.values() for process in calls} | {os.getpid()}) == 5


def test_a_call_has_a_peak_of_its_own() -> None:
    kept = bytearray(b"x") * (300 * MEGABYTE)  # of which a child must know nothing
    [results] = interleaved({"small": partial(measure_peak, 20), "large": partial(measure_peak, 120)}, 1)
    [small], [large] = results.values()
    assert 18 * MEGABYTE <= small < 60 * MEGABYTE
    assert 118 * MEGABYTE <= large < 200 * MEGABYTE
    assert len(kept) == 300 * MEGABYTE


def test_a_refusal_comes_back_and_a_death_is_named() -> None:
    with pytest.raises(SnowError, match="no such thing"):
        list(interleaved({"a": refuse}, 1))
    with pytest.raises(SnowError, match="the process that measured b died.*smaller batch"):
        list(interleaved({"b": partial(os._exit, 9)}, 1))


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux which processes live")
def test_a_measurement_ends_with_the_process_that_wants_it(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(target=measure_for_ever, args=(tmp_path / "process",))
    parent.start()
    child = int(eventually(lambda: (tmp_path / "process").read_text("utf-8") or None))
    parent.kill()
    parent.join()
    eventually(lambda: True if not is_alive(child) else None)


def eventually(find: Callable[[], T | None]) -> T:
    """Wait until `find` returns something, and return it."""
    for _ in range(600):
        with suppress(OSError):
            if (value := find()) is not None:
                return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text("utf-8").rpartition(") ")[2][0] != "Z"


def test_a_spread_holds_the_median_and_the_range() -> None:
    spread = Spread.of([3.0, 1.0, 10.0])
    assert (spread.median, spread.range) == (3.0, (1.0, 10.0))
