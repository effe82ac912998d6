"""Processes of their own, in turn, and what they hold."""

from __future__ import annotations

import os
from functools import partial

import pytest
from calls import MEGABYTE, held, refuse

from snow.bench.apart import interleaved
from snow.bench.spread import Spread
from snow.errors import SnowError


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


def test_a_spread_holds_the_median_and_the_range() -> None:
    spread = Spread.of([3.0, 1.0, 10.0])
    assert (spread.median, spread.range) == (3.0, (1.0, 10.0))
