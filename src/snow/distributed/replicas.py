"""What serves a hub in several processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snow.errors import SnowError
from snow.serving.limits import Limits


@dataclass(frozen=True)
class Replicas:
    """With engine ray: how many processes answer, and what each of them takes.

    Attributes:
        replicas: processes, each with the hub open.
        max_replicas: up to so many are started while more than --max-batch requests a replica are under way; by
            default no more than --replicas.
        replica_cpus: cores that a replica takes.
        replica_gpus: GPUs that a replica takes, 0.5 for two replicas on one; by default 1 with --device cuda.

    Raises:
        SnowError: fewer than one, or nothing to run on.
    """

    replicas: int = 1
    max_replicas: int | None = None
    replica_cpus: int = 1
    replica_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise SnowError(f"replicas is at least 1, not {self.replicas}")
        if self.most < self.replicas:
            raise SnowError(f"max_replicas is at least replicas, {self.replicas}, not {self.max_replicas}")
        if self.replica_cpus < 1:
            raise SnowError(f"replica_cpus is at least 1, not {self.replica_cpus}")
        if not 0 <= (self.replica_gpus or 0) < float("inf"):
            raise SnowError(f"replica_gpus is zero or more, not {self.replica_gpus}")

    @property
    def most(self) -> int:
        """So many there may be."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    def gpus(self, device: str) -> float:
        """That each takes, on a device of this name."""
        if self.replica_gpus is None:
            return float(device.partition(":")[0] == "cuda")
        return self.replica_gpus


@dataclass(frozen=True)
class Served:
    """What each replica serves, and how; the arguments of `Hub.open`, `Service` and `create_app`."""

    hub: Path
    engine: str
    device: str
    limits: Limits
    token: str | None
