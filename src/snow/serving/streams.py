"""Read the body of a request up to a limit. Imports nothing heavy: a proxy without torch uses it too."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect, Request

from snow.serving.errors import RefusedError


async def stream_body(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """Raises RefusedError: there is more than `limit` bytes of it, or it ends too early."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise RefusedError("too_many_bytes", f"{int(said):,} bytes are more than {limit:,}")
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
    """All of it, in memory; as `stream_body`."""
    return b"".join([chunk async for chunk in stream_body(request, limit)])
