"""Options of a service in several processes: how many replicas, and what each of them serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snow.errors import SnowError
from snow.serving.access import Address
from snow.serving.limits import Limits


@dataclass(frozen=True)
class Replicas:
    """With engine ray: the number of processes that serve, and the resources of each.

    Attributes:
        replicas: number of processes, each with the hub open.
        max_replicas: number of processes under load, which is more than --max-batch pending requests per replica; by
            default as --replicas.
        replica_cpus: cores per replica.
        replica_gpus: GPUs per replica, 0.5 for two replicas on one; by default 1 with --device cuda.

    Raises:
        SnowError: fewer than one replica, or no core for it.
    """

    replicas: int = 1
    max_replicas: int | None = None
    replica_cpus: int = 1
    replica_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise SnowError(f"replicas must be at least 1, not {self.replicas}")
        if self.most < self.replicas:
            raise SnowError(f"max_replicas must be at least replicas, {self.replicas}, not {self.max_replicas}")
        if self.replica_cpus < 1:
            raise SnowError(f"replica_cpus must be at least 1, not {self.replica_cpus}")
        if not 0 <= (self.replica_gpus or 0) < float("inf"):
            raise SnowError(f"replica_gpus must be zero or more, not {self.replica_gpus}")

    @property
    def most(self) -> int:
        """Largest number of replicas."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    def gpus(self, device: str) -> float:
        """Return the GPUs that each replica takes on this device."""
        if self.replica_gpus is None:
            return float(device.partition(":")[0] == "cuda")
        return self.replica_gpus


@dataclass(frozen=True)
class ServiceConfig:
    """The service that each replica runs: arguments of `Hub.open`, `Service` and `create_app`."""

    hub: Path
    engine: str
    device: str
    limits: Limits
    address: Address
    token: str | None
