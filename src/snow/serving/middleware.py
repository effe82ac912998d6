"""Around every request: count it, add security headers, bound its response, and turn refusals and errors into JSON."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snow.serving.errors import CODES, RefusedError, printable
from snow.serving.fairness import FairBudget, Owner, client_at
from snow.serving.metrics import Metrics
from snow.serving.requests import first_error

log = logging.getLogger("snow.serving")

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

PIECE_BYTES = 2**16
"""Bytes of a response that are sent at once. What the client does not read stays in the memory of the process."""

METHODS = ("GET", "POST", "PUT", "DELETE")

OTHER = "other"
"""Label for requests to paths that do not exist."""


class RequestMetrics:
    """Middleware that counts requests by the path of their route, so that clients cannot create labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        method, is_head = scope["method"], scope["method"] == "HEAD"
        scope["method"] = "GET" if is_head else method  # a HEAD is a GET whose content is not sent (RFC 9110, 9.3.2)
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"range"]  # many are slow (14.2)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            path = getattr(scope.get("route"), "path", OTHER)
            self.metrics.record_response(
                path, method if path != OTHER else OTHER, status, time.perf_counter() - started
            )


class BoundedResponses:
    """Middleware that sends large responses in pieces, and holds them in the budget of all bodies until they are sent.

    If others need the memory, the connection of the client that reads most slowly is closed.
    """

    def __init__(self, app: ASGIApp, budget: FairBudget) -> None:
        self.app, self.budget = app, budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= PIECE_BYTES:
                await send(message)
                return
            async with _until_evicted() as evict:
                with self.budget.hold(Owner(client_at(scope["client"][0])), evict) as memory:
                    for start in range(0, len(body), PIECE_BYTES) if memory.take(len(body)) else ():
                        more = message.get("more_body", False) or start + PIECE_BYTES < len(body)
                        await send({**message, "body": body[start : start + PIECE_BYTES], "more_body": more})

        await self.app(scope, receive, send_in_pieces if scope["type"] == "http" and scope["client"] else send)


@asynccontextmanager
async def _until_evicted() -> AsyncGenerator[Callable[[], None]]:
    """Run a block that ends early, without an error, when the function that it gets is called."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            yield lambda: timeout.reschedule(asyncio.get_running_loop().time())


def allowed_methods(app: FastAPI, request: Request) -> list[str]:
    """List the methods that a path supports: each of them may have a route of its own."""
    methods: set[str] = set()
    for method in METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] == Match.FULL for route in app.routes):
            methods |= {method, "HEAD"} if method == "GET" else {method}
    return sorted(methods)


def handle_refusals(app: FastAPI, metrics: Metrics) -> None:
    """Turn every failure into a JSON error with one of `CODES`."""

    def respond(refusal: RefusedError) -> JSONResponse:
        metrics.record_refusal(refusal.code)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def on_refusal(request: Request, error: Any) -> JSONResponse:
        return respond(error)

    async def on_invalid_parameter(request: Request, error: Any) -> JSONResponse:
        return respond(RefusedError("invalid", first_error(error)))

    async def on_http_error(request: Request, error: Any) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
        response = respond(RefusedError(code, f"{request.method} {printable(request.url.path)}: {CODES[code][1]}"))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(allowed_methods(app, request))
        return response

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, printable(request.url.path), exc_info=error)
        return respond(RefusedError("internal", CODES["internal"][1]))

    handlers: dict[Any, Callable[[Request, Any], Awaitable[JSONResponse]]] = {
        RefusedError: on_refusal,
        RequestValidationError: on_invalid_parameter,
        HTTPException: on_http_error,
        Exception: on_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
