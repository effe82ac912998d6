"""Who may change tasks."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from snow.serving.errors import RefusedError


def authorise(request: Request, token: str | None) -> None:
    """Compares the request's `Authorization: Bearer TOKEN` in constant time.

    Raises:
        RefusedError: the service has no token, or the request another one.
    """
    if not token:
        raise RefusedError("management_off", "the service was started without a token: tasks are not changed over HTTP")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise RefusedError("unauthorized", "send the service's token: Authorization: Bearer TOKEN")
