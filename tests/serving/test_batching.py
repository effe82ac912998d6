"""Batches: when they start, what is in them, and what becomes of those that do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
import torch
from clock import Clock, until
from torch import Tensor

pytest.importorskip("fastapi")

from snow.serving.batching import Batcher
from snow.serving.errors import RefusedError
from snow.serving.fairness import Owner

Wait = Callable[[Any], None]
NEVER = lambda: pytest.fail("a place was taken back")  # noqa: E731
PIXEL = torch.zeros(3, 1, 1, dtype=torch.uint8)


class Engine:
    """Answers with what was wanted, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may = asyncio.Event()
        self.may.set()

    async def answer(self, images: Sequence[Tensor], wanted: Sequence[Collection[str]]) -> list[str]:
        names = [next(iter(one)) for one in wanted]
        self.batches.append(names)
        await self.may.wait()
        if "bad" in names:
            raise RuntimeError("bad")
        return names


def started(size: int = 4, wait: float = 0.02, bound: int = 100) -> tuple[Engine, Batcher[str], asyncio.Task[None]]:
    engine = Engine()
    batcher = Batcher[str](engine.answer, size, wait, bound)
    return engine, batcher, asyncio.create_task(batcher.run())


async def ask(batcher: Batcher[str], name: str) -> str:
    owner = Owner()
    with batcher.reserve(owner, NEVER) as places:
        places.extend(1)
        return (await batcher.submit(PIXEL, [name], owner)).answer


def test_a_batch_starts_once_it_is_full_and_the_rest_waits(wait: Wait) -> None:
    async def work() -> None:
        clock = Clock()
        engine, batcher, _ = started(size=2, wait=100)
        asked = [asyncio.create_task(ask(batcher, name)) for name in "abcde"]
        await until(lambda: sum(one.done() for one in asked) == 4)
        assert engine.batches == [["a", "b"], ["c", "d"]]
        clock.turn(100)
        assert await asyncio.gather(*asked) == list("abcde")
        assert engine.batches == [["a", "b"], ["c", "d"], ["e"]]

    wait(work())


def test_what_comes_during_a_pass_shares_the_next_one(wait: Wait) -> None:
    async def work() -> None:
        engine, batcher, _ = started(wait=0.0)
        engine.may.clear()
        first = asyncio.create_task(ask(batcher, "a"))
        while not engine.batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(ask(batcher, name)) for name in "bcd"]
        await until(lambda: batcher.waiting == 3)
        assert batcher.reserved == 4
        assert batcher.started is not None
        engine.may.set()
        assert await asyncio.gather(first, *others) == list("abcd")
        assert engine.batches == [["a"], ["b", "c", "d"]]
        assert (batcher.reserved, batcher.waiting, batcher.started) == (0, 0, None)

    wait(work())


def test_one_who_leaves_takes_no_part(wait: Wait) -> None:
    async def work() -> None:
        clock = Clock()
        engine, batcher, _ = started(wait=100)
        leaving = asyncio.create_task(ask(batcher, "a"))
        staying = asyncio.create_task(ask(batcher, "b"))
        await until(lambda: batcher.waiting == 2)
        leaving.cancel()
        clock.turn(100)
        assert await staying == "b"
        assert engine.batches == [["b"]]
        assert batcher.reserved == 0

    wait(work())


def test_a_queue_has_an_end_and_says_when_to_come_back(wait: Wait) -> None:
    async def work() -> None:
        _, batcher, _ = started(bound=3)
        one, other = Owner(), Owner()
        with batcher.reserve(one, NEVER) as reservation, batcher.reserve(other, NEVER) as single:
            reservation.extend(1)
            reservation.extend(1)
            single.extend(1)
            with pytest.raises(RefusedError) as refused, batcher.reserve(Owner(), NEVER) as late:
                late.extend(2)
            assert (refused.value.code, refused.value.status) == ("queue_full", 503)
            assert int(refused.value.headers["Retry-After"]) >= 1
            with pytest.raises(RefusedError, match="3 pictures"):
                reservation.extend(1)
        assert batcher.reserved == 0
        with batcher.reserve(one, NEVER) as reservation:
            reservation.extend(3)

    wait(work())


def test_a_pass_that_fails_fails_its_batch_alone(wait: Wait) -> None:
    async def work() -> None:
        _, batcher, _ = started(size=2)
        results = await asyncio.gather(*(ask(batcher, name) for name in ("bad", "b", "c")), return_exceptions=True)
        assert [type(one) for one in results] == [RuntimeError, RuntimeError, str]

    wait(work())


def test_closing_answers_what_was_accepted_and_takes_nothing_more(wait: Wait) -> None:
    async def work() -> None:
        engine, batcher, running = started(size=2, wait=1000)
        owner = Owner()
        with batcher.reserve(owner, NEVER):  # its picture is not decoded yet
            asked = [asyncio.create_task(ask(batcher, name)) for name in "abc"]
            await until(lambda: batcher.waiting == 1)
            batcher.close()
            assert await asyncio.gather(*asked) == list("abc")
            with pytest.raises(RefusedError) as refused, batcher.reserve(owner, NEVER):
                pass
            assert refused.value.code == "stopping"
            assert not running.done()
            assert (await batcher.submit(PIXEL, ["d"], owner)).answer == "d"
        await running
        assert engine.batches == [["a", "b"], ["c"], ["d"]]

    wait(work())
