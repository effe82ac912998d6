"""In front of the replicas: what one of them leaves unanswered is asked of another one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snow.serving.errors import RefusedError
from snow.serving.streams import read_body

VARIABLE = "SNOW_REPEATING"
"""In the environment of Ray's proxies: the arguments of `RetryMiddleware`, as JSON."""

HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Names what gives Ray's proxies their middleware."""

TRIES = 3
"""So many replicas may be lost over one request: what ends them may be the request."""

PREDICT = ("POST", "/v1/predict")
OWN = "/-/"
"""Paths that a proxy answers itself."""


class RetryMiddleware:
    """Middleware of a proxy. A replica that dies leaves its requests without a response, and a proxy of Ray makes of
    that a bare 500. Here a question, which changes nothing, is held until its whole response is there, and is asked
    again if it never comes; for anything else it is said that it is not known what became of it.

    Args:
        app: the proxy. What it says by itself, of a replica or a path that is not there, is plain text.
        places: questions that may be held; what comes on top is refused with 503 at once.
        max_bytes: of a question.
        seconds: for which a question is held, at most.
    """

    def __init__(self, app: ASGIApp, places: int, max_bytes: int, seconds: float) -> None:
        self._app, self._places, self._max_bytes, self._seconds = app, places, max_bytes, seconds
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(OWN):
            await self._app(scope, receive, send)
            return
        try:
            if (scope["method"], scope["path"]) == PREDICT:
                said = await self._asked(scope, receive)
            elif scope["method"] in ("GET", "HEAD"):
                said = await self._repeated(scope, receive)
            else:
                said = await self._once(scope, receive)
                if said is None:
                    raise _unavailable("the replica was lost: look whether the change was made")
            for message in said:
                await send(message)
        except RefusedError as refusal:
            await JSONResponse(refusal.body, refusal.status, refusal.headers)(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive) -> Sequence[Message]:
        """A question's response. Raises RefusedError: there is none, or no room for the question."""
        if self._taken >= self._places:
            raise RefusedError("queue_full", f"{self._taken} requests are waiting already", retry_after=1)
        self._taken += 1
        try:
            async with asyncio.timeout(self._seconds):
                body = await read_body(Request(scope, receive), self._max_bytes)
                return await self._repeated(scope, receive, body)
        except TimeoutError:
            raise RefusedError("deadline", f"no answer within {self._seconds:g} s") from None
        finally:
            self._taken -= 1

    async def _repeated(self, scope: Scope, receive: Receive, body: bytes = b"") -> Sequence[Message]:
        for _ in range(TRIES):
            said = await self._once(scope, _again(body, receive))
            if said is not None:
                return said
        raise _unavailable(f"{TRIES} replicas were lost")

    async def _once(self, scope: Scope, receive: Receive) -> Sequence[Message] | None:
        """The whole response, or None if a replica was lost over it. Raises RefusedError: there is no replica."""
        said: list[Message] = []

        async def keep(message: Message) -> None:
            said.append(message)

        await self._app({**scope, "headers": list(scope["headers"])}, receive, keep)
        if not said or said[-1]["type"] != "http.response.body" or said[-1].get("more_body", False):
            return None
        if said[0]["status"] >= 400 and _is_plain(said[0]):
            raise _unavailable("no replica takes requests")
        return said


def middleware() -> list[Middleware]:
    """What `HOOK` names."""
    return [Middleware(RetryMiddleware, **json.loads(os.environ[VARIABLE]))]


def environment(places: int, max_bytes: int, seconds: float) -> dict[str, str]:
    """What a proxy finds `RetryMiddleware` by."""
    arguments = {"places": places, "max_bytes": max_bytes, "seconds": seconds}
    return {HOOK: f"{__name__}:{middleware.__name__}", VARIABLE: json.dumps(arguments)}


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return received


def _is_plain(start: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"])


def _unavailable(message: str) -> RefusedError:
    return RefusedError("unavailable", message, retry_after=1)
