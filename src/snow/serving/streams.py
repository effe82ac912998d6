"""The body of a request, read up to a limit. Ray's proxies use this too, so it imports no torch."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect, Request

from snow.serving.errors import RefusedError


async def stream_body(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """Yield the body in chunks. Raises RefusedError: it has more than `limit` bytes, or ends too early."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise RefusedError("too_many_bytes", f"{int(declared):,} bytes are more than {limit:,}")
    count = 0
    try:
        async for chunk in request.stream():
            count += len(chunk)
            if count > limit:
                raise RefusedError("too_many_bytes", f"the body has more than {limit:,} bytes")
            yield chunk
    except ClientDisconnect:
        raise RefusedError("malformed", "the body ends too early") from None


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body into memory; raises as `stream_body`."""
    return b"".join([chunk async for chunk in stream_body(request, limit)])


def content_type(request: Request) -> str:
    """Return the content type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
