"""Map a function over items on a Ray cluster: a running one, or one of this machine that ends with the command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from snow.errors import SnowError
from snow.process.interrupt import Interrupt, Interrupted

ADDRESS = "RAY_ADDRESS"
"""Environment variable of the cluster to join, as Ray reads it; `auto` is the one that runs on this machine."""


@contextmanager
def ray_cluster(**variables: str) -> Generator[Any]:
    """Connect to a cluster until the block ends, and yield the module `ray`.

    Workers of a cluster that is started here inherit the environment of this process. Workers on other machines need
    this package, and the folders under the same names.

    Args:
        variables: environment variables of the workers, on any machine.

    Raises:
        SnowError: Ray is not installed, this process has joined a cluster already, or none can be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise SnowError(f"engine ray needs {error.name}: pip install 'snow-cnn[ray]'") from None
    if ray.is_initialized():
        raise SnowError("this process has joined a Ray cluster already: leave it with ray.shutdown()")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # its messages need no action
    address = os.environ.get(ADDRESS) or "local"
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    environment: dict[str, Any] = {"runtime_env": {"env_vars": variables}} if variables else {}
    try:
        ray.init(address, namespace="snow", logging_level=logging.WARNING, **own, **environment)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "a Ray cluster cannot be started" if own else f"the Ray cluster {ADDRESS}={address} cannot be joined"
        raise SnowError(f"{where}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


MAX_RETRIES = 3
"""How often an item is retried after its worker was lost: the item itself may be the cause."""

POLL_SECONDS = 0.5
"""How often to check whether a signal came."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Resources of each worker of engine ray.

    Attributes:
        worker_cpus: cores that a worker takes.
        worker_gpus: GPUs that a worker takes, 0.5 for two on one; by default 1 where the cluster has any.

    Raises:
        SnowError: a worker would have no core.
    """

    worker_cpus: int = 1
    worker_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.worker_cpus < 1:
            raise SnowError(f"worker_cpus must be at least 1, not {self.worker_cpus}")
        if not 0 <= (self.worker_gpus or 0) < float("inf"):
            raise SnowError(f"worker_gpus must be zero or more, not {self.worker_gpus}")


def ray_map(
    work: Callable[[Item], Result],
    items: Mapping[str, Item],
    workers: Workers | None = None,
    done: Callable[[str, Result], None] = lambda name, result: None,
) -> dict[str, Result]:
    """Call `work(item)` for every item, as many at once as the cluster has room for, and return the results by name.

    Args:
        work: a function of a module that the workers have. It may be started again: its worker may die.
        items: by name.
        workers: resources of each; by default one core, and one GPU where the cluster has any.
        done: called with each name and result.

    Raises:
        SnowError: some items failed, each with its name; or there is no cluster, or not enough room on it.
        Interrupted: SIGINT or SIGTERM came; running items were interrupted as well.
    """
    workers = workers or Workers()
    results: dict[str, Result] = {}
    failed: list[str] = []
    with ray_cluster() as ray, Interrupt() as interrupt:
        resources = ray.cluster_resources()
        gpus = float("GPU" in resources) if workers.worker_gpus is None else workers.worker_gpus
        if workers.worker_cpus > resources.get("CPU", 0):
            raise SnowError(
                f"a worker takes {workers.worker_cpus} cores, the whole cluster has {resources.get('CPU', 0):g}"
            )
        remote = ray.remote(num_cpus=workers.worker_cpus, num_gpus=gpus, max_retries=MAX_RETRIES)(work)
        names = {remote.remote(item): name for name, item in items.items()}
        pending, cancelled = list(names), False
        while pending:
            ready, pending = ray.wait(pending, num_returns=1, timeout=POLL_SECONDS)
            if interrupt.requested and not cancelled:
                cancelled = True
                for call in (*ready, *pending):
                    ray.cancel(call)
            for call in ready:
                name = names[call]
                try:
                    results[name] = ray.get(call)
                    done(name, results[name])
                except ray.exceptions.RayError as error:
                    failed.append(f"{name}: {_reason(error)}")
        if interrupt.signal is not None:
            raise Interrupted(f"stopped with {len(results)} of {len(items)} done", interrupt.signal)
    if failed:
        raise SnowError("; ".join(failed))
    return results


def _reason(error: Any) -> str:
    """Describe in one line what a worker raised, or that it was lost."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, SnowError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if cause is not None and lines else f"its worker was lost ({type(error).__name__})"
