"""Around every request: counts it, says what the page may load, and turns refusals into JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snow.serving.errors import CODES, RefusedError
from snow.serving.metrics import Metrics
from snow.serving.requests import why

log = logging.getLogger("snow.serving")

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

OTHER = "other"
"""The path of requests for nothing that is there."""


class RequestMetrics:
    """Middleware: counts by the route's own path, so that no client makes names of metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            path = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if path != OTHER else OTHER
            self.metrics.responded(path, method, status, time.perf_counter() - begun)


def handle_refusals(app: FastAPI, metrics: Metrics) -> None:
    """Makes every failure a JSON error with one of `CODES`."""

    def refused(refusal: RefusedError) -> JSONResponse:
        metrics.refused(refusal.code)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def of_refusal(request: Request, error: Any) -> JSONResponse:
        return refused(error)

    async def of_parameters(request: Request, error: Any) -> JSONResponse:
        return refused(RefusedError("invalid", why(error)))

    async def of_routing(request: Request, error: Any) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
        response = refused(RefusedError(code, f"{request.method} {request.url.path}: {CODES[code][1]}"))
        response.headers.update(error.headers or {})
        return response

    async def of_fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return refused(RefusedError("internal", "a fault of the service; its log has more"))

    handlers: dict[Any, Callable[[Request, Any], Awaitable[JSONResponse]]] = {
        RefusedError: of_refusal,
        RequestValidationError: of_parameters,
        HTTPException: of_routing,
        Exception: of_fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
