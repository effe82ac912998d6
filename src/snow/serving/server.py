"""The server: runs a service on uvicorn until SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import threading

import uvicorn

from snow.serving.app import create_app
from snow.serving.service import Service

GRACE_SECONDS = 5
"""Time beyond its deadline that a request has to be sent when the service stops."""


class _Server(uvicorn.Server):
    """Marks the service as not ready as soon as a signal arrives."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self._service.ready = False
        super().handle_exit(sig, frame)  # ty: ignore[invalid-argument-type]


def serve(service: Service, host: str, port: int, token: str | None = None, access_log: bool = False) -> None:
    """Serve on `host` and `port` until SIGINT or SIGTERM. Requests that were accepted by then are answered."""
    config = uvicorn.Config(
        create_app(service, token),
        host=host,
        port=port,
        access_log=access_log,
        log_level="info",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.limits.deadline) + GRACE_SECONDS,
    )
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises the signal again when it has stopped
            signal.signal(number, lambda *_: None)
    _Server(config, service).run()
