"""Runs a service until it is told to stop."""

from __future__ import annotations

import signal
import threading

import uvicorn

from snow.serving.app import create_app
from snow.serving.service import Service

GRACE = 5
"""Seconds that a request may take to be sent, beyond its deadline, when the service stops."""


class _Server(uvicorn.Server):
    """Says that it is not ready as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self._service.ready = False
        super().handle_exit(sig, frame)  # ty: ignore[invalid-argument-type]


def serve(service: Service, host: str, port: int, token: str | None = None, access_log: bool = False) -> None:
    """Answers on `host` and `port` until SIGINT or SIGTERM; what was accepted until then is finished first."""
    config = uvicorn.Config(
        create_app(service, token),
        host=host,
        port=port,
        access_log=access_log,
        log_level="info",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.limits.deadline) + GRACE,
    )
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has stopped
            signal.signal(number, lambda *_: None)
    _Server(config, service).run()
