"""Turns: many requests at once, each step of one, and who comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")

from snow.serving.fairness import Owner  # noqa: E402  what it needs may not be installed
from snow.serving.turns import AT_ONCE, FairTurns, Turns  # noqa: E402

Wait = Callable[[Any], None]


def test_one_step_of_a_request_waits_for_few_others_to_begin(wait: Wait) -> None:
    begun = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1

    async def work() -> None:
        fair = FairTurns(app)
        others = [asyncio.create_task(fair({"type": "http", "client": ("10.0.0.1", n)}, None, None)) for n in range(99)]
        steps = []
        while not all(other.done() for other in others):
            before = begun
            await asyncio.sleep(0)
            steps.append(begun - before)
        assert max(steps) == AT_ONCE
        assert begun == 99

    wait(work())


def test_clients_and_their_connections_take_turns(wait: Wait) -> None:
    begun: list[tuple[str, int]] = []

    async def work() -> None:
        turns = Turns(1)

        async def request(client: str, connection: int) -> None:
            await turns.take(Owner(client, connection))
            begun.append((client, connection))

        asked = [("many", 0)] * 5 + [("many", 1)] * 2 + [("few", 0)]
        waiting = [asyncio.create_task(request(*each)) for each in asked]
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    wait(work())
    assert begun == [("many", 0), ("many", 0), ("few", 0), ("many", 1), ("many", 0), ("many", 1), ("many", 0)]


def test_a_turn_is_free_when_nobody_waits(wait: Wait) -> None:
    async def work() -> None:
        turns = Turns(2)
        for _ in range(5):
            for _ in range(2):
                turn = turns.take(Owner())
                with pytest.raises(StopIteration):
                    turn.send(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    wait(work())
