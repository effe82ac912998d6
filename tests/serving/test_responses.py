"""What a response lists is bounded, and a large one is encoded beside the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import torch

from snow.hub import Artifact, Hub
from snow.inference import ClassPrediction, Failure, encode
from snow.serving import responses
from snow.serving.errors import RefusedError
from snow.serving.fairness import FairBudget, Owner
from snow.serving.limits import MAX_DESCRIBING, Describer
from snow.serving.middleware import PIECE_BYTES, BoundedResponses
from snow.serving.requests import Picture, PredictRequest
from snow.serving.responses import MAX_CLASSES, MAX_ON_LOOP, PredictResult, encode_response, require_bounded

Wait = Callable[[Any], None]


def asked(pictures: int, top_k: int = 5) -> PredictRequest:
    return PredictRequest((Picture(b"x", 'a "\udc80'),) * pictures, (), top_k)


def test_json_made_in_steps_is_that_of_every_interface() -> None:
    names = ("zero", 'o"ne')
    [prediction] = ClassPrediction.from_logits("t", names, torch.tensor([[0.25, 1.5]]))
    predictions = {"t": prediction, "gone": Failure("gone", "it\nfailed")}
    content = encode_response(asked(2), PredictResult([predictions] * 2, 0.25, 0.5, 1.0, 7), 2.0, 0.0)
    entry = encode('a "\udc80', predictions, 5)
    timing = {"total": 2000.0, "decode": 250.0, "queue": 500.0, "engine": 1000.0, "batch": 7}
    assert json.loads(content) == {"results": [entry, entry], "timing": timing}
    assert b" " not in content.replace(b'a \\"', b"").replace(b"it\\nfailed", b"")


@pytest.mark.parametrize(
    ("pictures", "classes", "top_k", "is_allowed"),
    [
        (64, [1000] * 7, 1000, True),
        (64, [1000] * 8, 1000, False),
        (64, [1000] * 300, 5, True),
        (64, [3] * 300, 1000, True),
        (1, [1000] * 501, 1000, False),
    ],
)
def test_the_classes_of_a_response_are_bounded(
    pictures: int, classes: Sequence[int], top_k: int, is_allowed: bool
) -> None:
    if is_allowed:
        require_bounded(asked(pictures, top_k), classes)
        return
    with pytest.raises(RefusedError, match=f"more than the {MAX_CLASSES:,}") as refused:
        require_bounded(asked(pictures, top_k), classes)
    assert refused.value.status == 422


def test_a_large_response_is_made_in_a_thread_and_a_small_one_is_not(
    serve: Any,
    hub: Hub,
    canary: Callable[..., Artifact],
    jpeg: Callable[..., bytes],
    wait: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(canary("wide", 1, tuple(f"class {number}" for number in range(MAX_ON_LOOP + 1))))
    threads: list[bool] = []
    real = responses.encode

    def noted(*arguments: Any) -> dict[str, Any]:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(*arguments)

    monkeypatch.setattr(responses, "encode", noted)

    async def work() -> None:
        async with serve() as served:
            for top_k in (2, MAX_ON_LOOP + 1):
                response = await served.predict(jpeg(), tasks="wide", top_k=top_k)
                assert response.status_code == 200
                assert len(response.json()["results"][0]["tasks"]["wide"]["classes"]) == top_k
            monkeypatch.setattr(responses, "MAX_CLASSES", MAX_ON_LOOP)
            refused = await served.predict(jpeg(), tasks="wide", top_k=MAX_ON_LOOP + 1)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid")

    wait(work())
    assert threads == [True, False]


class SlowClient:
    """Takes the first piece of a response and does not read on until it `may`."""

    def __init__(self, size: int) -> None:
        self.content = bytes(range(256)) * (size // 256)
        self.messages: list[Any] = []
        self.may = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.content})

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if "body" in message:
            await self.may.wait()

    async def receive(self, budget: FairBudget) -> None:
        scope = {"type": "http", "client": ("10.0.0.1", 1)}
        await BoundedResponses(self.app, budget)(scope, lambda: None, self.send)


def test_a_response_is_held_in_the_budget_until_it_is_sent(wait: Wait) -> None:
    async def work() -> None:
        client, budget = SlowClient(3 * PIECE_BYTES + 256), FairBudget(2**20)
        receiving = asyncio.create_task(client.receive(budget))
        await asyncio.sleep(0.01)
        assert budget.used == len(client.content)
        assert len(client.messages) == 2
        client.may.set()
        await receiving
        assert budget.used == 0
        start, *pieces = client.messages
        assert start["status"] == 200
        assert b"".join(piece["body"] for piece in pieces) == client.content
        assert [piece["more_body"] for piece in pieces] == [True, True, True, False]

    wait(work())


def test_a_client_that_does_not_read_gives_way_to_others(wait: Wait) -> None:
    async def work() -> None:
        client, budget = SlowClient(12 * PIECE_BYTES), FairBudget(16 * PIECE_BYTES)
        receiving = asyncio.create_task(client.receive(budget))
        await asyncio.sleep(0.01)
        with budget.hold(Owner("10.0.0.2"), lambda: None) as other:
            assert other.take(8 * PIECE_BYTES)
            await asyncio.wait_for(receiving, 10)
        assert client.messages[-1]["more_body"] is True, "it is not complete"
        assert budget.used == 0

    wait(work())


def test_descriptions_that_nobody_waits_for_do_not_pile_up(wait: Wait) -> None:
    async def work() -> None:
        may = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            describer = Describer(executor)
            waiting = [asyncio.create_task(describer.run(number, may.wait)) for number in range(MAX_DESCRIBING)]
            await asyncio.sleep(0.01)
            with pytest.raises(RefusedError) as refused:
                await describer.run("one more", may.wait)
            assert refused.value.code == "queue_full"
            may.set()
            assert await asyncio.gather(*waiting) == [True] * MAX_DESCRIBING
            assert await describer.run("one more", lambda: 1) == 1

    wait(work())


def test_clients_that_ask_for_the_same_share_what_is_begun_after_they_asked(wait: Wait) -> None:
    async def work() -> None:
        begun, may, made = threading.Event(), threading.Event(), count()

        def describe() -> int:
            number = next(made)
            begun.set()
            assert may.wait(300)
            return number

        with ThreadPoolExecutor(1) as executor:
            describer = Describer(executor)
            first = asyncio.create_task(describer.run("a thing", describe))
            await asyncio.to_thread(begun.wait, 300)
            later = [asyncio.create_task(describer.run("a thing", describe)) for _ in range(3 * MAX_DESCRIBING)]
            await asyncio.sleep(0)
            later.pop(0).cancel()
            may.set()
            assert await first == 0
            assert set(await asyncio.gather(*later)) == {1}
            assert await describer.run("a thing", describe) == 2

    wait(work())


def test_the_page_is_sent_as_one_whatever_ranges_are_wanted(serve: Any, wait: Wait) -> None:
    async def work() -> None:
        async with serve() as served:
            expected = await served.client.get("/")
            response = await served.client.get("/", headers={"Range": "bytes=0-0,2-2,4-4"})
            assert (response.status_code, response.content) == (200, expected.content)

    wait(work())
