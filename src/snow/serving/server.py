"""The server: runs a service on uvicorn until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading

import uvicorn

from snow.serving.access import Address
from snow.serving.app import create_app
from snow.serving.connections import BACKLOG, OncePerSecond, protocol_class
from snow.serving.service import Service

GRACE_SECONDS = 5
"""Time beyond its deadline that a request has to be sent when the service stops."""

ACCEPTING = 2
"""Rounds of the event loop in which it accepts what has connected before a signal."""

SWITCH_SECONDS = 5e-4
"""Time for which another thread keeps the interpreter that the event loop waits for. It does so after most calls of the
system, and Python's 5 ms would then be the time of every step of a request."""


class _Server(uvicorn.Server):
    """Marks the service as not ready as soon as a signal arrives."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self._service.ready = False
        super().handle_exit(sig, frame)  # ty: ignore[invalid-argument-type]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that wait to be, then stop."""
        for _ in range(ACCEPTING):
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def serve(service: Service, address: Address, token: str | None = None, access_log: bool = False) -> None:
    """Serve on an address until SIGINT or SIGTERM. Requests that were accepted by then are answered."""
    config = uvicorn.Config(
        create_app(service, token, address.known_hosts, address.cors_origin),
        host=address.host,
        port=address.port,
        access_log=access_log,
        log_level="info",
        proxy_headers=False,
        server_header=False,
        http=protocol_class(service.limits),
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(service.limits.deadline) + GRACE_SECONDS,
    )
    for name in ("uvicorn.error", "snow.serving"):
        logging.getLogger(name).addFilter(OncePerSecond())
    sys.setswitchinterval(SWITCH_SECONDS)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises the signal again when it has stopped
            signal.signal(number, lambda *_: None)
    _Server(config, service).run()
