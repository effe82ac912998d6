"""What stands before the replicas, with a proxy that loses them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from clock import Clock, until

httpx = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")

from starlette.responses import JSONResponse, PlainTextResponse, Response  # noqa: E402

from snow.distributed import retry  # noqa: E402
from snow.distributed.retry import TRIES, RetryMiddleware  # noqa: E402

Wait = Callable[[Any], None]


class Proxy:
    """Gives one response after the other; None: the replica dies; bytes: it dies after these."""

    def __init__(self, *responses: Response | bytes | None) -> None:
        self.responses, self.bodies = list(responses), []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        response = self.responses.pop(0)
        if isinstance(response, Response):
            await response(scope, receive, send)
        elif response is not None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": response, "more_body": True})


def asked(app: Any, method: str = "POST", path: str = "/v1/predict", content: bytes = b"picture") -> Any:
    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(ask())


def repeated(*responses: Response | bytes | None, **options: Any) -> tuple[RetryMiddleware, Proxy]:
    proxy = Proxy(*responses)
    return RetryMiddleware(
        proxy, **{"places": 2, "max_bytes": 100, "max_bodies": 1000, "seconds": 5.0, **options}
    ), proxy


ANSWER = JSONResponse({"answer": 1})


@pytest.mark.parametrize("lost", [None, b'{"ans'])
def test_a_question_that_a_lost_replica_had_is_asked_again(lost: bytes | None) -> None:
    app, proxy = repeated(lost, lost, ANSWER)
    assert asked(app).json() == {"answer": 1}
    assert proxy.bodies == [b"picture"] * 3


def test_a_question_that_loses_every_replica_is_not_asked_for_ever() -> None:
    app, proxy = repeated(*[None] * (TRIES + 1))
    response = asked(app)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"
    assert len(proxy.bodies) == TRIES


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_change_is_never_made_twice(method: str) -> None:
    app, proxy = repeated(None, ANSWER)
    response = asked(app, method, "/v1/tasks/one")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert len(proxy.bodies) == 1


def test_what_may_be_read_twice_is() -> None:
    app, _ = repeated(None, ANSWER)
    assert asked(app, "GET", "/v1/tasks", b"").json() == {"answer": 1}


@pytest.mark.parametrize("status", [404, 503])
def test_without_a_replica_it_says_so_as_the_service_would(status: int) -> None:
    app, _ = repeated(PlainTextResponse("Path '/' not found", status))
    assert asked(app).json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("status", [200, 422, 500, 503])
def test_what_a_replica_says_is_left_as_it_is(status: int) -> None:
    app, proxy = repeated(JSONResponse({"error": {}}, status, {"x-own": "1"}))
    response = asked(app)
    assert (response.status_code, response.headers["x-own"], response.json()) == (status, "1", {"error": {}})
    assert len(proxy.bodies) == 1


def test_a_question_that_is_too_large_reaches_no_replica() -> None:
    app, proxy = repeated(ANSWER, max_bytes=6)
    assert asked(app).json()["error"]["code"] == "too_many_bytes"
    assert proxy.bodies == []


def test_what_is_held_has_a_bound_in_number_and_time(wait: Wait) -> None:
    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        clock = Clock()
        app = RetryMiddleware(stuck, places=2, max_bytes=100, max_bodies=1000, seconds=100)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", timeout=None) as client:
            asked = [asyncio.create_task(client.post("/v1/predict", content=b"x")) for _ in range(3)]
            await until(lambda: any(one.done() for one in asked))
            clock.turn(100)
            found = await asyncio.gather(*asked)
            assert sorted(one.json()["error"]["code"] for one in found) == ["deadline", "deadline", "queue_full"]
            again = asyncio.create_task(client.post("/v1/predict", content=b"x"))
            while not again.done():  # it is not known when its time begins
                clock.turn(10)
                await asyncio.sleep(0.002)
            assert (await again).json()["error"]["code"] == "deadline"

    wait(work())


def test_a_proxy_finds_it_in_its_environment_and_needs_no_torch() -> None:
    variables = retry.environment(places=3, max_bytes=4, max_bodies=9, seconds=5.0)
    module, _, name = variables[retry.HOOK].partition(":")
    code = f"import sys, {module}; [one] = {module}.{name}(); assert 'torch' not in sys.modules; print(one.kwargs)"
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout.replace("'", '"')) == {"places": 3, "max_bytes": 4, "max_bodies": 9, "seconds": 5.0}
