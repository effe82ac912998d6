"""The Ray cluster that work is handed to: one that is there, or one of this machine for as long as a command runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from snow.errors import SnowError

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
