"""Who may change tasks, and which web pages may speak to the service."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from snow.errors import SnowError
from snow.serving.errors import CODES, RefusedError, printable
from snow.serving.fairness import client_at
from snow.serving.limits import RateLimiter

log = logging.getLogger("snow.serving")

SHORTEST_TOKEN = 16
"""Characters of a token that cannot be guessed."""

WRONG_TOKENS = 10
"""Wrong tokens that one client may send at once, and then one a second."""
WRONG_TOKEN_SECONDS = 0.5
"""Time after which a wrong token is answered."""

LOCAL_NAMES = ("localhost",)


@dataclass(frozen=True)
class Address:
    """Where a service listens, and for whom.

    Attributes:
        host: address to listen on; by default only this machine can connect.
        port: port to listen on.
        allowed_host: host names that requests may be for, as they stand in a URL; by default, names of this machine
            where only this machine can connect, and any elsewhere.
        cors_origin: origins of web pages that may ask for predictions, such as https://example.org; by default none.

    Raises:
        SnowError: the port is out of range, or an origin is not one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_host: tuple[str, ...] = ()
    cors_origin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise SnowError(f"--port must be between 1 and 65535, not {self.port}")
        for origin in self.cors_origin:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or f"{parts.scheme}://{parts.netloc}" != origin
            ):
                raise SnowError(f"--cors-origin {origin!r} is not an origin such as https://example.org")

    @property
    def known_hosts(self) -> tuple[str, ...] | None:
        """The hosts that the service answers for, beside this machine's own names; None for any."""
        return self.allowed_host if self.allowed_host or is_local(self.host) else None


def check_token(token: str | None, host: str) -> None:
    """Check that a token cannot be guessed by those who reach `host`, the address that the service listens on.

    Raises:
        SnowError: it is short, and other machines can connect. On this machine alone it is a warning in the log.
    """
    if not token or len(token) >= SHORTEST_TOKEN:
        return
    message = f"the token has {len(token)} characters: use {SHORTEST_TOKEN} or more, as from `openssl rand -hex 16`"
    if not is_local(host):
        raise SnowError(message)
    log.warning("%s", message)


def is_local(host: str) -> bool:
    """Return whether a host name or address means this machine and no other can use it."""
    name = host.strip("[]").lower().rstrip(".")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name in LOCAL_NAMES or name.endswith(".localhost")


class TokenGuard:
    """Compares tokens in constant time, answers wrong ones late, and counts them by client.

    Args:
        token: what a request must carry to change tasks; with None, tasks cannot be changed.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._wrong = RateLimiter(1.0, WRONG_TOKENS)

    @property
    def enabled(self) -> bool:
        """Whether tasks can be changed at all."""
        return bool(self._token)

    async def authorise(self, request: Request) -> None:
        """Check that a request carries the token: `Authorization: Bearer TOKEN`.

        Raises:
            RefusedError: the service has no token, the request has a wrong one or comes from another web site, or its
                client has sent too many wrong ones.
        """
        if not self._token:
            raise RefusedError("management_off", CODES["management_off"][1])
        _refuse_other_sites(request)
        client = client_at(request.client.host if request.client else "")
        if not self._wrong.allows(client):
            raise RefusedError("rate_limited", "too many wrong tokens from this address", retry_after=1)
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), self._token.encode()):
            return
        self._wrong.check(client)
        log.warning("unauthorized: %s %s from %s", request.method, printable(request.url.path), client)
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        raise RefusedError("unauthorized", "send the service's token: Authorization: Bearer TOKEN")


def _refuse_other_sites(request: Request) -> None:
    """Refuse a request that a web page of another site makes a browser send (Fetch Metadata, and before it Origin)."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        is_own = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not is_own:
        raise RefusedError("cross_site", CODES["cross_site"][1])


class HostCheck:
    """Middleware that answers requests for known hosts only.

    The host name in a request is that of the web page which sends it. A page whose name is pointed at this machine (DNS
    rebinding) would otherwise be of the same origin as the service.

    Args:
        hosts: names and addresses, without a port; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts is not None:
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if not all(self._is_known(host) for host in hosts):
                refusal = RefusedError("wrong_host", CODES["wrong_host"][1])
                await JSONResponse(refusal.body, refusal.status)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_known(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        name = name if name and port.isdecimal() else host
        return is_local(name) or name.lower() in (self._hosts or ())
