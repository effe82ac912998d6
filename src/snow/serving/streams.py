"""The body of a request, read up to a limit. Ray's proxies use this too, so it imports no torch."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect, Request

from snow.serving.errors import RefusedError
from snow.serving.fairness import Holding


async def stream_body(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """Yield the body in chunks. Raises RefusedError: it has more than `limit` bytes, or ends too early."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > limit):
        raise RefusedError("too_many_bytes", f"the body is declared with more than {limit:,} bytes")
    count = 0
    try:
        async for chunk in request.stream():
            count += len(chunk)
            if count > limit:
                raise RefusedError("too_many_bytes", f"the body has more than {limit:,} bytes")
            yield chunk
    except ClientDisconnect:
        raise RefusedError("disconnected", "the body ends too early") from None


async def read_body(request: Request, limit: int, memory: Holding) -> bytearray:
    """Read the body into memory.

    Args:
        memory: takes the bytes from what all requests may hold together.

    Raises:
        RefusedError: as `stream_body`; or other requests hold too much.
    """
    body = bytearray()
    async for chunk in stream_body(request, limit):
        if not memory.take(len(chunk)):
            raise RefusedError("queue_full", "the bodies of other requests fill the memory for them", retry_after=1)
        body += chunk
    return body


def content_type(request: Request) -> str:
    """Return the content type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
