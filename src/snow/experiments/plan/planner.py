"""Find the fewest replicas that meet a goal, and the outcome with fewer and with more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from math import ceil, isfinite
from typing import Any

from snow.errors import SnowError
from snow.experiments.plan.demand import Demand
from snow.experiments.plan.measurements import Measurements
from snow.experiments.plan.pass_times import PassTimes
from snow.experiments.plan.replica import SimulatedReplica
from snow.experiments.plan.simulation import Outcome, Routing, simulate
from snow.experiments.results.record import provenance
from snow.serving.limits import Limits

PICTURES = 30_000
"""Arrivals per simulation: some 300 of them lie beyond the 99th percentile."""

IDLE = 0.002
"""Load as a fraction of capacity below which more replicas do not help any more."""

FACTORS = (1.1, 1.25, 1.5, 2.0)
"""Multiples of the needed replicas that the table shows, too."""

FAR = 4
"""Multiple of the measured number of tasks beyond which a plan notes that it extrapolates."""


@dataclass(frozen=True)
class Goal:
    """The goal of a plan.

    Attributes:
        p99: seconds within which 99 % of the accepted pictures are answered.
        refused: fraction of the pictures that may be refused.

    Raises:
        SnowError: a latency that is not positive, or a fraction outside [0, 1).
    """

    p99: float
    refused: float = 0.001

    def __post_init__(self) -> None:
        if not (isfinite(self.p99) and self.p99 > 0):
            raise SnowError(f"the goal must be a latency above 0 ms, not {1000 * self.p99:g} ms")
        if not 0 <= self.refused < 1:
            raise SnowError(f"the fraction that may be refused must be at least 0 and below 1, not {self.refused:g}")

    def met(self, outcome: Outcome) -> bool:
        return outcome.p99 <= self.p99 and outcome.refused <= self.refused


@dataclass
class Planner:
    """Simulate one load on any number of replicas.

    Attributes:
        limits: of each replica, as for `snow serve`.
        pictures: arrivals per simulation.

    Raises:
        SnowError: fewer than 1000 pictures.
    """

    measurements: Measurements
    demand: Demand
    limits: Limits = field(default_factory=lambda: Limits(max_pictures=1))
    routing: Routing = "random"
    seed: int = 0
    pictures: int = PICTURES

    def __post_init__(self) -> None:
        if self.pictures < 1000:
            raise SnowError(f"a simulation takes at least 1000 pictures, not {self.pictures}")
        self._pass_times = PassTimes(self.measurements, self.demand, self.seed)
        self._outcomes: dict[int, Outcome] = {}

    def outcome(self, replicas: int) -> Outcome:
        """Simulate the load on a number of replicas, once."""
        if replicas not in self._outcomes:
            self._pass_times.restart()
            self._outcomes[replicas] = simulate(
                self._replica, self.demand.rate, replicas, self.routing, self.pictures, self.seed
            )
        return self._outcomes[replicas]

    def capacity(self) -> float:
        """Estimate the pictures per second that one replica can answer: full batches, back to back."""
        handling = self.measurements.handling.at(self.demand.mean_tasks)
        size = min(self.limits.max_batch, self.limits.queue)
        rate = size / (self._pass_times.mean(size) + size * self.measurements.delay(self.demand.mean_tasks))
        for limit in (handling, self.measurements.decode / self.limits.decoders):
            rate = min(rate, 1 / limit) if limit else rate
        return rate

    def least_latency(self) -> float:
        """Estimate the seconds of a picture on an idle replica, including `max_wait` for a batch that does not fill."""
        request = self.measurements.request_seconds(self.demand.mean_tasks)
        return request + (self.limits.max_wait / 1000 if self.limits.max_batch > 1 else 0.0) + self._pass_times.mean(1)

    def replicas_for(self, goal: Goal) -> int:
        """Find the fewest replicas that meet the goal.

        Raises:
            SnowError: no number of replicas meets it.
        """
        if (least := self.least_latency()) > goal.p99:
            raise SnowError(
                f"a p99 of {1000 * goal.p99:g} ms cannot be met: on an idle replica a picture takes "
                f"{1000 * least:.1f} ms, "
                f"{self.limits.max_wait:g} ms of it waiting for a batch"
            )
        return _fewest(
            lambda replicas: goal.met(self.outcome(replicas)), self.fewest_for_capacity(), self._give_up(goal)
        )

    def fewest_for_capacity(self) -> int:
        """Count the replicas whose capacity covers the load."""
        return max(1, ceil(self.demand.rate / self.capacity()))

    def _give_up(self, goal: Goal) -> Callable[[int], None]:
        def check(replicas: int) -> None:
            if self.demand.rate / replicas < IDLE * self.capacity():
                p99 = self.outcome(replicas).p99
                raise SnowError(
                    f"a p99 of {1000 * goal.p99:g} ms cannot be met: with {replicas} replicas it is still "
                    f"{1000 * p99:.1f} ms, the time of single passes"
                )

        return check

    def _replica(self) -> SimulatedReplica:
        measured, tasks = self.measurements, self.demand.mean_tasks
        return SimulatedReplica(
            self.limits, measured.handling.at(tasks), measured.decode, measured.delay(tasks), self._pass_times.draw
        )


def _fewest(met: Callable[[int], bool], least: int, check: Callable[[int], None]) -> int:
    """Search for the fewest replicas: grow until the goal is met, then bisect."""
    few, enough = least - 1, least
    while not met(enough):
        check(enough)
        few, enough = enough, max(enough + 1, ceil(1.5 * enough))
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if met(middle) else (middle, enough)
    return enough


def plan_replicas(planner: Planner, goal: Goal, replicas: Iterable[int] = ()) -> dict[str, Any]:
    """Plan a load: the replicas it needs, their memory, and outcomes around that number, as JSON values.

    Args:
        replicas: further numbers of replicas to simulate.

    Raises:
        SnowError: no number of replicas meets the goal; a number below 1.
    """
    counts = set(replicas)
    if min(counts, default=1) < 1:
        raise SnowError(f"a load takes at least one replica, not {min(counts)}")
    needed, least = planner.replicas_for(goal), planner.fewest_for_capacity()
    counts |= {
        least,
        (least + needed) // 2,
        max(1, needed - 1),
        needed,
        *(ceil(factor * needed) for factor in FACTORS),
    }
    measurements, demand = planner.measurements, planner.demand
    memory = round(measurements.memory_bytes.at(demand.tasks))
    on_device = (
        None if measurements.device_memory_bytes is None else round(measurements.device_memory_bytes.at(demand.tasks))
    )
    return {
        **provenance(),
        "figures": dict(measurements.measured or {}),
        "rate": demand.rate,
        "tasks": demand.tasks,
        "tasks_a_picture": str(demand.mix),
        "goal": asdict(goal),
        "routing": planner.routing,
        "limits": {name: getattr(planner.limits, name) for name in LIMITS},
        "seed": planner.seed,
        "replicas": needed,
        "capacity_per_second": planner.capacity(),
        "least_latency": planner.least_latency(),
        "memory_bytes": {"replica": memory, "all": needed * memory},
        "device_memory_bytes": None if on_device is None else {"replica": on_device, "all": needed * on_device},
        "rows": [_row(planner, goal, count, memory) for count in sorted(counts)],
        "notes": _notes(planner),
    }


LIMITS = ("max_batch", "max_wait", "queue", "deadline", "decoders")
"""The limits of a service that a plan depends on."""


def _row(planner: Planner, goal: Goal, replicas: int, memory: int) -> dict[str, Any]:
    """Describe one number of replicas. Infinite latencies become null, because JSON has no infinity."""
    outcome = planner.outcome(replicas)
    figures = {name: value if isfinite(value) else None for name, value in asdict(outcome).items()}
    load = planner.demand.rate / (replicas * planner.capacity())
    return {
        "replicas": replicas,
        "met": goal.met(outcome),
        "of_capacity": load,
        **figures,
        "memory_bytes": replicas * memory,
    }


def _notes(planner: Planner) -> list[str]:
    """List where the plan extrapolates beyond the measurements."""
    notes, measured, demand = [], planner.measurements.measured or {}, planner.demand
    if (tasks := measured.get("most_tasks", 0)) and demand.mean_tasks > FAR * tasks:
        notes.append(f"{demand.mean_tasks:g} tasks per picture are extrapolated from passes with at most {tasks}")
    if (largest := measured.get("largest_pass", 0)) and planner.limits.max_batch > largest:
        notes.append(f"batches of up to {planner.limits.max_batch} are extrapolated from passes of at most {largest}")
    if measured and not measured.get("requests"):
        notes.append("decoding and HTTP are left out: they were not measured (this takes --sizes and snow-cnn[serve])")
    return notes
