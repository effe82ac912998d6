"""Retries in front of the replicas: a request that is lost with one replica is sent to another."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snow.serving.errors import RefusedError
from snow.serving.fairness import FairBudget, Owner, client_at
from snow.serving.interruption import interruptible
from snow.serving.streams import read_body

VARIABLE = "SNOW_REPEATING"
"""Environment variable of Ray's proxies with the arguments of `RetryMiddleware` as JSON."""

HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Environment variable that names the function which makes the middleware of Ray's proxies."""

TRIES = 3
"""Replicas that one request may be sent to. The request itself may be what kills them."""

PREDICT = ("POST", "/v1/predict")
PROXY_PATHS = "/-/"
"""Prefix of the paths that a proxy answers itself."""


class RetryMiddleware:
    """Middleware of a proxy of Ray.

    When a replica dies, its requests have no response, and the proxy answers with a bare 500. This middleware holds
    a request that changes nothing until its whole response is there, and sends it again if the response is lost. A
    request that changes tasks is never sent twice: its client learns that the outcome is unknown.

    Args:
        app: the proxy. Its own errors, about a missing replica or path, are plain text.
        places: requests for predictions to hold; further ones are refused at once with 503.
        max_bytes: largest request for predictions.
        max_bodies: bytes of all requests for predictions together; beyond it, the largest is refused.
        seconds: longest time to hold a request.
    """

    def __init__(self, app: ASGIApp, places: int, max_bytes: int, max_bodies: int, seconds: float) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds
        self._places, self._bodies = FairBudget(places), FairBudget(max_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(PROXY_PATHS):
            await self._app(scope, receive, send)
            return
        try:
            if (scope["method"], scope["path"]) == PREDICT:
                messages = await self._predict(scope, receive)
            elif scope["method"] in ("GET", "HEAD"):
                messages = await self._retry(scope, receive)
            else:
                messages = await self._once(scope, receive)
                if messages is None:
                    raise _unavailable("the replica was lost: check whether the change was made")
            for message in messages:
                await send(message)
        except RefusedError as refusal:
            await JSONResponse(refusal.body, refusal.status, refusal.headers)(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive) -> Sequence[Message]:
        """Return the response to a request for predictions. Raises RefusedError: there is none, or no place."""
        client = scope.get("client")
        owner = Owner(client_at(client[0]) if client else "")
        async with interruptible(self._seconds) as interruption:
            evict = interruption.make_room
            with self._places.hold(owner, evict) as place, self._bodies.hold(owner, evict) as memory:
                if not place.may_take(1):
                    raise _full(self._places)
                body = await read_body(Request(scope, receive), self._max_bytes, memory)
                if not place.take(1):
                    raise _full(self._places)
                return await self._retry(scope, receive, bytes(body))

    async def _retry(self, scope: Scope, receive: Receive, body: bytes = b"") -> Sequence[Message]:
        """Return a complete response. Raises RefusedError: every replica that was tried was lost."""
        for _ in range(TRIES):
            messages = await self._once(scope, _replay(body, receive))
            if messages is not None:
                return messages
        raise _unavailable(f"{TRIES} replicas were lost")

    async def _once(self, scope: Scope, receive: Receive) -> Sequence[Message] | None:
        """Return the whole response, or None if the replica was lost. Raises RefusedError: there is no replica."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app({**scope, "headers": list(scope["headers"])}, receive, keep)
        if not messages or messages[-1]["type"] != "http.response.body" or messages[-1].get("more_body", False):
            return None
        if messages[0]["status"] >= 400 and _is_plain(messages[0]):
            raise _unavailable("no replica takes requests")
        return messages


def middleware() -> list[Middleware]:
    """Make the middleware of a proxy; `HOOK` names this function."""
    return [Middleware(RetryMiddleware, **json.loads(os.environ[VARIABLE]))]


def environment(places: int, max_bytes: int, max_bodies: int, seconds: float) -> dict[str, str]:
    """Return the environment variables that make a proxy use `RetryMiddleware`."""
    arguments = {"places": places, "max_bytes": max_bytes, "max_bodies": max_bodies, "seconds": seconds}
    return {HOOK: f"{__name__}:{middleware.__name__}", VARIABLE: json.dumps(arguments)}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Make a `receive` that returns a body which was read already."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return received


def _is_plain(start: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"])


def _full(places: FairBudget) -> RefusedError:
    return RefusedError("queue_full", f"{places.used} requests are waiting already", retry_after=1)


def _unavailable(message: str) -> RefusedError:
    return RefusedError("unavailable", message, retry_after=1)
