"""The same application in many processes, on as many machines as a Ray cluster has."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from snow.errors import SnowError
from snow.hub import Hub
from snow.serving.app import create_app
from snow.serving.replicas import Replicas, Served
from snow.serving.server import GRACE
from snow.serving.service import Service
from snow.serving.threads import on_one_core


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
