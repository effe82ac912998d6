"""The same application in many processes, on as many machines as a Ray cluster has."""

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
from snow.distributed.replicas import Replicas, Served
from snow.distributed.retry import environment
from snow.errors import SnowError
from snow.hub import Hub
from snow.process.interrupt import Interrupted
from snow.process.threads import on_one_core
from snow.serving.app import create_app
from snow.serving.server import GRACE
from snow.serving.service import Service


@serve.ingress()
class Replica:
    """One process with the hub open and a service of its own. Ray sends it requests, asks for its health and stops it.

    Raises:
        SnowError: on this machine there is no such hub, or another one.
    """

    def __init__(self, served: Served) -> None:
        on_one_core()
        hub = Hub.open(served.hub, engine=served.engine)
        self._service = Service(hub, served.limits, served.device)
        self._token = served.token

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._service, self._token)

    async def check_health(self) -> None:
        """Raises SnowError: it takes no requests, or a pass never ends. Ray puts another replica in its place."""
        if self._service.stuck or not self._service.ready:
            raise SnowError("the service is stuck" if self._service.stuck else "the service takes no requests")


def deployment(served: Served, replicas: Replicas, access_log: bool = False) -> Application:
    """What `ray.serve.run` runs."""
    limits = served.limits
    number: dict[str, Any] = {"num_replicas": replicas.replicas}
    if replicas.most > replicas.replicas:
        bounds = {"min_replicas": replicas.replicas, "max_replicas": replicas.most}
        number = {"autoscaling_config": {**bounds, "target_ongoing_requests": limits.max_batch}}
    deployed: Any = serve.deployment(
        Replica,
        name="snow",
        max_ongoing_requests=2 * limits.queue,  # a replica refuses by itself what it has no place for
        ray_actor_options={"num_cpus": replicas.replica_cpus, "num_gpus": replicas.gpus(served.device)},
        max_constructor_retry_count=2,
        health_check_period_s=5,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=limits.deadline + GRACE,
        logging_config={"enable_access_log": access_log, "log_level": "INFO" if access_log else "WARNING"},
        **number,
    )
    return deployed.bind(served)


APPLICATION = "snow"
CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")
"""Name and namespace of the actor that is there while Serve runs on a cluster."""

LOOK = 0.2
"""Seconds between two looks at whether a signal came."""


def serve_on_ray(
    served: Served,
    replicas: Replicas,
    host: str,
    port: int,
    access_log: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> None:
    """Answers on `host` and `port` of every machine that has a replica, until SIGINT or SIGTERM.

    What was accepted until then is answered first. Another signal, or one while it starts, ends it at once.

    Args:
        told: of what happens, a line each.

    Raises:
        SnowError: there is no cluster, Serve runs on it already, the port is taken, or a replica cannot start.
        Interrupted: stopped before it answered, or while it stopped.
    """
    _require_free(host, port)
    with ray_cluster() as ray:
        signals = _Signals()
        _require_none(ray)
        _warn_of_cores(ray, replicas, told)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        limits = served.limits
        try:
            variables = environment(limits.queue * replicas.most, limits.max_bytes, limits.deadline + GRACE)
            serve.start(
                proxy_location="EveryNode",
                http_options={"host": host, "port": port},
                logging_config={"enable_access_log": False, "log_level": "WARNING"},
                controller_options={"runtime_env": {"env_vars": variables}},
            )
            serve.run(deployment(served, replicas, access_log), name=APPLICATION)
        except (RuntimeError, TimeoutError, RayServeException, ray.exceptions.RayError) as error:
            raise SnowError(f"the service cannot start on Ray: {_reason(error)}") from None
        told(f"{replicas.replicas} replica(s) answer on http://{host}:{port} (Ctrl-C to stop)")
        signals.wait()
        told("answering what was accepted")
        serve.delete(APPLICATION)
        serve.shutdown()


class _Signals:
    """SIGINT and SIGTERM: the first that comes during `wait` ends it, any other is raised."""

    def __init__(self) -> None:
        self._waiting = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def wait(self) -> None:
        self._waiting = True
        while self._waiting:
            time.sleep(LOOK)

    def _handle(self, number: int, _frame: object) -> None:
        if not self._waiting:
            raise Interrupted("stopped", number)
        self._waiting = False


def _require_free(host: str, port: int) -> None:
    """Raises SnowError: nothing can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SnowError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _require_none(ray: Any) -> None:
    """Raises SnowError: Serve runs on this cluster, with proxies that do not repeat what is lost."""
    try:
        ray.get_actor(*CONTROLLER)
    except ValueError:
        return
    raise SnowError("Ray Serve runs on this cluster already: stop it with `serve shutdown`, or use another cluster")


def _warn_of_cores(ray: Any, replicas: Replicas, told: Callable[[str], None]) -> None:
    there, wanted = ray.cluster_resources().get("CPU", 0), replicas.most * replicas.replica_cpus
    if wanted > there:
        told(
            f"warning: the cluster has {there:g} cores and {replicas.most} replicas take {wanted}: some will not start"
        )


def _reason(error: BaseException) -> str:
    """The last line that says something: Ray puts whole traces into messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else type(error).__name__)
