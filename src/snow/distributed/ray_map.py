"""The Ray cluster that work is handed to: one that is there, or one of this machine for as long as a command runs."""

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
"""In the environment: the cluster to join, as Ray reads it; `auto` is the one that was started on this machine."""


@contextmanager
def joined(**variables: str) -> Generator[Any]:
    """The module `ray`, connected to a cluster until the block ends.

    The environment of this process goes to the workers of a cluster that is started here, where it is found by them
    as it is here; workers on other machines need this package, and folders under the same names.

    Args:
        variables: of the environment of whatever is started from here, on any machine.

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
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # what it says needs nothing to be done
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


LOST = 3
"""Workers that may be lost over one item: what ends them may be the item."""

LOOK = 0.5
"""Seconds between two looks at whether a signal came."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """With engine ray: what each worker takes.

    Attributes:
        worker_cpus: cores that a worker takes.
        worker_gpus: GPUs that a worker takes, 0.5 for two on one; by default 1 where the cluster has any.

    Raises:
        SnowError: nothing to run on.
    """

    worker_cpus: int = 1
    worker_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.worker_cpus < 1:
            raise SnowError(f"worker_cpus is at least 1, not {self.worker_cpus}")
        if not 0 <= (self.worker_gpus or 0) < float("inf"):
            raise SnowError(f"worker_gpus is zero or more, not {self.worker_gpus}")


def ray_map(
    work: Callable[[Item], Result],
    items: Mapping[str, Item],
    workers: Workers | None = None,
    done: Callable[[str, Result], None] = lambda name, result: None,
) -> dict[str, Result]:
    """`work(item)` of every item, by name; as many at once as the cluster has room for.

    Args:
        work: a function of a module that the workers have, which may be begun again at any moment: its worker may die.
        done: told of each result as it comes.

    Raises:
        SnowError: as one raised it, with its name, when the others have ended; there is no cluster, or room on it.
        Interrupted: SIGINT or SIGTERM came; what was under way was interrupted as well.
    """
    workers = workers or Workers()
    results: dict[str, Result] = {}
    failed: list[str] = []
    with joined() as ray, Interrupt() as interrupt:
        there = ray.cluster_resources()
        gpus = float("GPU" in there) if workers.worker_gpus is None else workers.worker_gpus
        if workers.worker_cpus > there.get("CPU", 0):
            raise SnowError(
                f"a worker takes {workers.worker_cpus} cores, the whole cluster has {there.get('CPU', 0):g}"
            )
        remote = ray.remote(num_cpus=workers.worker_cpus, num_gpus=gpus, max_retries=LOST)(work)
        names = {remote.remote(item): name for name, item in items.items()}
        waiting, told = list(names), False
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK)
            if interrupt.requested and not told:
                told = True
                for one in (*ready, *waiting):
                    ray.cancel(one)
            for one in ready:
                try:
                    results[names[one]] = ray.get(one)
                    done(names[one], results[names[one]])
                except ray.exceptions.RayError as error:
                    failed.append(f"{names[one]}: {_reason(error)}")
        if interrupt.signal is not None:
            raise Interrupted(f"stopped with {len(results)} of {len(items)} done", interrupt.signal)
    if failed:
        raise SnowError("; ".join(failed))
    return results


def _reason(error: Any) -> str:
    """One line: what was raised on the worker, or what became of it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, SnowError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if cause is not None and lines else f"its worker was lost ({type(error).__name__})"
