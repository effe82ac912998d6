"""Replicas: the service in many processes, on the machines of a Ray cluster, behind Ray Serve."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from snow.distributed.ray_map import ray_cluster
from snow.distributed.replicas import Replicas, ServiceConfig
from snow.distributed.retry import environment
from snow.errors import SnowError
from snow.hub import Hub
from snow.process.interrupt import Interrupted
from snow.process.threads import on_one_core
from snow.serving.app import create_app
from snow.serving.server import GRACE_SECONDS
from snow.serving.service import Service


@serve.ingress()
class Replica:
    """One process with its own service. Ray sends it requests, checks its health and stops it.

    Raises:
        SnowError: the hub cannot be opened on this machine.
    """

    def __init__(self, config: ServiceConfig) -> None:
        on_one_core()
        hub = Hub.open(config.hub, engine=config.engine)
        self._service = Service(hub, config.limits, config.device)
        self._config = config

    def __serve_build_asgi_app__(self) -> FastAPI:
        address = self._config.address
        return create_app(self._service, self._config.token, address.known_hosts, address.cors_origin)

    async def check_health(self) -> None:
        """Raises SnowError: it takes no requests, or a pass does not end. Ray then replaces the replica."""
        if self._service.stuck or not self._service.ready:
            raise SnowError("the service is stuck" if self._service.stuck else "the service takes no requests")


def deployment(config: ServiceConfig, replicas: Replicas, access_log: bool = False) -> Application:
    """Build the application that `ray.serve.run` runs."""
    limits = config.limits
    number: dict[str, Any] = {"num_replicas": replicas.replicas}
    if replicas.most > replicas.replicas:
        bounds = {"min_replicas": replicas.replicas, "max_replicas": replicas.most}
        number = {"autoscaling_config": {**bounds, "target_ongoing_requests": limits.max_batch}}
    deployed: Any = serve.deployment(
        Replica,
        name="snow",
        max_ongoing_requests=2 * limits.queue,  # a replica refuses requests itself when its queue is full
        ray_actor_options={"num_cpus": replicas.replica_cpus, "num_gpus": replicas.gpus(config.device)},
        max_constructor_retry_count=2,
        health_check_period_s=5,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=limits.deadline + GRACE_SECONDS,
        logging_config={"enable_access_log": access_log, "log_level": "INFO" if access_log else "WARNING"},
        **number,
    )
    return deployed.bind(config)


APPLICATION = "snow"
CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")
"""Name and namespace of the actor that exists while Serve runs on a cluster."""

SIGNAL_SECONDS = 0.2
"""Time between two checks for a signal."""


def serve_on_ray(
    config: ServiceConfig,
    replicas: Replicas,
    access_log: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve on the address, at every machine with a replica, until SIGINT or SIGTERM.

    Requests that were accepted by then are answered. A second signal, or one during the start, ends it at once.

    Args:
        log: is called with one line for each event.

    Raises:
        SnowError: there is no cluster, Serve runs on it already, the port is taken, or a replica cannot start.
        Interrupted: a signal came during the start or the stop.
    """
    host, port = config.address.host, config.address.port
    _require_free(host, port)
    with ray_cluster() as ray:
        signals = _Signals()
        _require_none(ray)
        _warn_of_cores(ray, replicas, log)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        limits = config.limits
        try:
            places, seconds = limits.queue * replicas.most, limits.deadline + GRACE_SECONDS
            variables = environment(places, limits.max_bytes, limits.max_bodies * replicas.most, seconds)
            serve.start(
                proxy_location="EveryNode",
                http_options={"host": host, "port": port},
                logging_config={"enable_access_log": False, "log_level": "WARNING"},
                controller_options={"runtime_env": {"env_vars": variables}},
            )
            serve.run(deployment(config, replicas, access_log), name=APPLICATION)
        except (RuntimeError, TimeoutError, RayServeException, ray.exceptions.RayError) as error:
            raise SnowError(f"the service cannot start on Ray: {_reason(error)}") from None
        log(f"{replicas.replicas} replica(s) answer on http://{host}:{port} (Ctrl-C to stop)")
        signals.wait()
        log("answering accepted requests")
        serve.delete(APPLICATION)
        serve.shutdown()


class _Signals:
    """Handles SIGINT and SIGTERM: the first one during `wait` ends the wait, any other raises `Interrupted`."""

    def __init__(self) -> None:
        self._waiting = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def wait(self) -> None:
        self._waiting = True
        while self._waiting:
            time.sleep(SIGNAL_SECONDS)

    def _handle(self, number: int, _frame: object) -> None:
        if not self._waiting:
            raise Interrupted("stopped", number)
        self._waiting = False


def _require_free(host: str, port: int) -> None:
    """Raises SnowError: the address is taken or invalid."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SnowError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _require_none(ray: Any) -> None:
    """Raises SnowError: Serve runs on this cluster already; its proxies would not retry lost requests."""
    try:
        ray.get_actor(*CONTROLLER)
    except ValueError:
        return
    raise SnowError("Ray Serve runs on this cluster already: stop it with `serve shutdown`, or use another cluster")


def _warn_of_cores(ray: Any, replicas: Replicas, log: Callable[[str], None]) -> None:
    cores, needed = ray.cluster_resources().get("CPU", 0), replicas.most * replicas.replica_cpus
    if needed > cores:
        log(f"warning: the cluster has {cores:g} cores and {replicas.most} replicas need {needed}: some will not start")


def _reason(error: BaseException) -> str:
    """Return the last line with an error: Ray puts whole tracebacks into its messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else type(error).__name__)
