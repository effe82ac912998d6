"""Too much at once, too slow, too often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from clock import Clock, until

from snow.serving.errors import RefusedError
from snow.serving.limits import MAX_ADDRESSES, RateLimiter

Wait = Callable[[Any], None]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], threading.Event]:
    """`held(served)`: passes wait until the event is set."""

    def hold(served: Any) -> threading.Event:
        may, worker = threading.Event(), served.service._worker
        answer = worker.predict

        def waiting(images: Any, wanted: Any) -> Any:
            assert may.wait(300)
            return answer(images, wanted)

        monkeypatch.setattr(worker, "predict", waiting)
        return may

    return hold


def test_a_full_queue_refuses_at_once_and_answers_what_it_took(
    serve: Any, held: Any, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    async def work() -> None:
        async with serve(queue=6, max_batch=2) as served:
            may = held(served)
            accepted = [asyncio.create_task(served.predict(jpeg(seed))) for seed in range(6)]
            await until(lambda: served.service.batcher.reserved == 6)
            refused = await asyncio.gather(*(served.predict(jpeg()) for _ in range(20)))
            for response in refused:
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "queue_full"
                assert int(response.headers["retry-after"]) >= 1
            assert "snow_queue_pictures 6.0" in (await served.client.get("/metrics")).text
            may.set()
            assert [one.status_code for one in await asyncio.gather(*accepted)] == [200] * 6
            assert served.service.batcher.reserved == 0
            text = (await served.client.get("/metrics")).text
            assert 'snow_refused_total{code="queue_full"} 20.0' in text
            assert 'snow_task_answers_total{task="learned"} 6.0' in text

    wait(work())


def test_a_request_with_more_pictures_than_there_is_room_for_is_refused(
    serve: Any, held: Any, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    async def work() -> None:
        async with serve(queue=4) as served:
            may = held(served)
            accepted = asyncio.create_task(served.predict(jpeg()))
            await until(lambda: served.service.batcher.reserved == 1)
            files = [("files", (str(seed), jpeg(seed))) for seed in range(4)]
            response = await served.client.post("/v1/predict", files=files)
            assert response.json()["error"]["code"] == "queue_full"
            may.set()
            assert (await accepted).status_code == 200
            assert (await served.client.post("/v1/predict", files=files)).status_code == 200

    wait(work())


def test_a_deadline_ends_a_request_and_takes_it_out_of_the_queue(
    serve: Any, held: Any, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    async def work() -> None:
        async with serve(deadline=200, max_batch=1) as served:
            may, clock = held(served), Clock()
            late = [asyncio.create_task(served.predict(jpeg())) for _ in range(2)]
            early = asyncio.create_task(served.predict(jpeg(), deadline_ms=100_000))
            await until(lambda: served.service.batcher.waiting == 2)
            assert not early.done()
            clock.turn(100)
            response = await early
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
            assert "100 s" in response.json()["error"]["message"]
            assert not any(request.done() for request in late)
            clock.turn(100)
            assert [one.status_code for one in await asyncio.gather(*late)] == [504, 504]
            assert served.service.batcher.reserved == 0
            may.set()
            await until(lambda: served.service.batcher.started is None)
            assert (await served.predict(jpeg())).json()["timing"]["batch"] == 1
            assert served.service.batcher.waiting == 0

    wait(work())


def test_a_body_that_does_not_come_is_given_up(serve: Any, wait: Wait) -> None:
    async def work() -> None:
        reading, end = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            yield b"\xff\xd8"
            reading.set()
            await end.wait()

        async with serve(deadline=100) as served:
            clock = Clock()
            request = asyncio.create_task(served.client.post("/v1/predict", content=slow()))
            await reading.wait()
            clock.turn(100)
            response = await request
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
            assert served.service.batcher.reserved == 0

    wait(work())


def test_a_pass_that_breaks_is_a_fault_and_the_next_one_goes_on(
    serve: Any, jpeg: Callable[..., bytes], wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with serve() as served:
            with monkeypatch.context() as patch:
                patch.setattr(served.service._worker, "predict", lambda *_: 1 / 0)
                response = await served.predict(jpeg())
                assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
                assert "division" not in response.text
            assert (await served.predict(jpeg())).status_code == 200

    wait(work())


def test_an_address_that_asks_too_often_is_refused(
    serve: Any, jpeg: Callable[..., bytes], wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snow.serving.app.RateLimiter", partial(RateLimiter, clock=lambda: 0.0))

    async def work() -> None:
        async with serve(rate=0.5, burst=3) as served:
            codes = [(await served.predict(jpeg())).status_code for _ in range(5)]
            assert codes == [200, 200, 200, 429, 429]
            response = await served.client.get("/v1/tasks")
            assert response.json()["error"]["code"] == "rate_limited"
            assert 1 <= int(response.headers["retry-after"]) <= 2
            assert (await served.client.get("/healthz")).status_code == 200

    wait(work())


def test_a_rate_lets_through_what_it_says_and_remembers_a_bounded_number_of_addresses() -> None:
    now = 0.0
    rate = RateLimiter(2.0, 3, lambda: now)
    passed = 0
    for step in range(100):
        now = step / 10
        try:
            rate.check("a")
            passed += 1
        except RefusedError:
            pass
    assert passed == 3 + int(2 * 9.9)
    for number in range(MAX_ADDRESSES + 10):
        rate.check(str(number))
    assert len(rate._buckets) == MAX_ADDRESSES
    free = RateLimiter(0.0, 1)
    for _ in range(100):
        free.check("a")
