"""The memory of a service: when what was freed is returned to the system."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from clock import Clock, until

pytest.importorskip("fastapi")

from snow.serving import memory  # noqa: E402  what it needs may not be installed
from snow.serving.fairness import FairBudget, Owner  # noqa: E402

Wait = Callable[[Any], None]
MEGABYTE = 2**20


class Body:
    error: object


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A process that uses 100 MB, and holds more that is freed."""
    process = SimpleNamespace(freed=0, trims=0)

    def trim() -> int:
        process.freed = 0
        process.trims += 1
        return 100 * MEGABYTE

    monkeypatch.setattr(memory, "process_memory", lambda: 100 * MEGABYTE + process.freed)
    monkeypatch.setattr(memory, "resident_bytes", trim)
    return process


def test_an_idle_service_returns_what_was_freed_and_a_busy_one_keeps_it(process: SimpleNamespace, wait: Wait) -> None:
    async def work() -> None:
        clock, budget = Clock(), FairBudget(256 * MEGABYTE)

        async def look() -> None:
            clock.turn(memory.TRIM_SECONDS)
            await asyncio.sleep(0.02)

        releasing = asyncio.create_task(memory.release_memory(budget))
        await until(lambda: process.trims == 1)
        process.freed = 60 * MEGABYTE
        with budget.hold(Owner(), lambda: None) as small:
            assert small.take(1000)
            await look()
        await look()
        assert process.freed, "a request came since the last look"
        await look()
        await until(lambda: not process.freed)

        trims, process.freed = process.trims, memory.TRIM_BYTES - 1
        await look()
        assert process.trims == trims, "not worth it"
        releasing.cancel()

    wait(work())


def test_a_busy_service_returns_what_large_bodies_took(process: SimpleNamespace, wait: Wait) -> None:
    async def work() -> None:
        clock, budget = Clock(), FairBudget(256 * MEGABYTE)
        releasing = asyncio.create_task(memory.release_memory(budget))
        await until(lambda: process.trims == 1)
        with budget.hold(Owner(), lambda: None) as small:
            assert small.take(1000)
            with budget.hold(Owner(), lambda: None) as large:
                assert large.take(memory.TRIM_BYTES)
            failed = Body()
            failed.error = failed  # as an error that holds the frame which holds a body
            held = weakref.ref(failed)
            del failed
            process.freed = memory.TRIM_BYTES
            clock.turn(memory.TRIM_SECONDS)
            await until(lambda: not process.freed)
            assert held() is None
        releasing.cancel()

    wait(work())
