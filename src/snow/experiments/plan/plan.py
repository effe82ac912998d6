"""How many replicas a goal takes, and what becomes of the load with fewer and with more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from math import ceil, isfinite
from typing import Any

from snow.errors import SnowError
from snow.experiments.plan.demand import Demand
from snow.experiments.plan.figures import Figures
from snow.experiments.plan.outcome import Outcome, Routing, simulate
from snow.experiments.plan.replica import Replica
from snow.experiments.plan.times import Times
from snow.experiments.results.record import provenance
from snow.serving.limits import Limits

PICTURES = 30_000
"""That come in a simulation: the 99th percentile is that of some 300 of them."""

IDLE = 0.002
"""Of a replica's capacity: who has not met the goal at so little load never will."""

AROUND = (1.1, 1.25, 1.5, 2.0)
"""Times the replicas that are needed: rows of the table."""

FAR = 4
"""Times what was measured, beyond which a plan says that it reckons."""


@dataclass(frozen=True)
class Goal:
    """What is good enough.

    Attributes:
        p99: seconds in which 99 of 100 pictures that were not refused are answered.
        refused: part of the pictures that may be refused.

    Raises:
        SnowError: a latency that is not above zero, a part that is none.
    """

    p99: float
    refused: float = 0.001

    def __post_init__(self) -> None:
        if not (isfinite(self.p99) and self.p99 > 0):
            raise SnowError(f"the goal is a latency above 0 ms, not {1000 * self.p99:g} ms")
        if not 0 <= self.refused < 1:
            raise SnowError(f"what may be refused is a part of all, from 0 to below 1, not {self.refused:g}")

    def met(self, outcome: Outcome) -> bool:
        return outcome.p99 <= self.p99 and outcome.refused <= self.refused


@dataclass
class Planner:
    """Simulates one load on any number of replicas.

    Attributes:
        limits: of each replica; what `snow serve` is told.
        pictures: in a simulation.
    """

    figures: Figures
    demand: Demand
    limits: Limits = field(default_factory=lambda: Limits(max_pictures=1))
    routing: Routing = "random"
    seed: int = 0
    pictures: int = PICTURES

    def __post_init__(self) -> None:
        if self.pictures < 1000:
            raise SnowError(f"a simulation takes at least 1000 pictures, not {self.pictures}")
        self._times = Times(self.figures, self.demand, self.seed)
        self._known: dict[int, Outcome] = {}

    def outcome(self, replicas: int) -> Outcome:
        """Of the load on so many replicas."""
        if replicas not in self._known:
            self._times.restart()
            self._known[replicas] = simulate(
                self._replica, self.demand.rate, replicas, self.routing, self.pictures, self.seed
            )
        return self._known[replicas]

    def capacity(self) -> float:
        """Pictures a second that one replica answers at most: full batches, back to back."""
        handling = self.figures.handling.at(self.demand.asked)
        stolen = handling + self.figures.decode if self.figures.shared else 0.0
        size = min(self.limits.max_batch, self.limits.queue)
        found = size / (self._times.mean(size) + size * stolen)
        for limit in (handling, self.figures.decode / self.limits.decoders):
            found = min(found, 1 / limit) if limit else found
        return found

    def least_latency(self) -> float:
        """Seconds that a picture takes at which nothing else comes: it waits for others in vain."""
        beside = self.figures.decode + self.figures.handling.at(self.demand.asked)
        return beside + (self.limits.max_wait / 1000 if self.limits.max_batch > 1 else 0.0) + self._times.mean(1)

    def needed(self, goal: Goal) -> int:
        """The fewest replicas that meet the goal.

        Raises:
            SnowError: no number does.
        """
        if (least := self.least_latency()) > goal.p99:
            raise SnowError(
                f"a p99 of {1000 * goal.p99:g} ms cannot be had: a picture that comes alone takes {1000 * least:.1f} ms"
                f", {self.limits.max_wait:g} ms of it waiting for others"
            )
        return _fewest(lambda replicas: goal.met(self.outcome(replicas)), self.carrying(), self._most(goal))

    def carrying(self) -> int:
        """The fewest replicas whose capacity is that of the load."""
        return max(1, ceil(self.demand.rate / self.capacity()))

    def _most(self, goal: Goal) -> Callable[[int], None]:
        def check(replicas: int) -> None:
            if self.demand.rate / replicas < IDLE * self.capacity():
                found = self.outcome(replicas)
                raise SnowError(
                    f"a p99 of {1000 * goal.p99:g} ms is not met by {replicas} replicas either, where it is "
                    f"{1000 * found.p99:.1f} ms: it is the time of single passes, not of waiting"
                )

        return check

    def _replica(self) -> Replica:
        handling = self.figures.handling.at(self.demand.asked)
        return Replica(self.limits, handling, self.figures.decode, self.figures.shared, self._times.draw)


def _fewest(met: Callable[[int], bool], least: int, check: Callable[[int], None]) -> int:
    """By doubling what is too few, and halving what is left between."""
    few, enough = least - 1, least
    while not met(enough):
        check(enough)
        few, enough = enough, max(enough + 1, ceil(1.5 * enough))
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if met(middle) else (middle, enough)
    return enough


def plan(planner: Planner, goal: Goal, replicas: Iterable[int] = ()) -> dict[str, Any]:
    """The replicas that the goal takes, what they hold, and the outcome around, as JSON values.

    Args:
        replicas: numbers whose outcome is wanted besides.

    Raises:
        SnowError: no number of replicas meets the goal; a number below 1.
    """
    wanted = set(replicas)
    if min(wanted, default=1) < 1:
        raise SnowError(f"a load takes at least one replica, not {min(wanted)}")
    needed, carrying = planner.needed(goal), planner.carrying()
    wanted |= {
        carrying,
        (carrying + needed) // 2,
        max(1, needed - 1),
        needed,
        *(ceil(part * needed) for part in AROUND),
    }
    figures, demand = planner.figures, planner.demand
    held = round(figures.held.at(demand.tasks))
    on_device = None if figures.device_held is None else round(figures.device_held.at(demand.tasks))
    return {
        **provenance(),
        "figures": dict(figures.measured or {}),
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
        "memory_bytes": {"replica": held, "all": needed * held},
        "device_memory_bytes": None if on_device is None else {"replica": on_device, "all": needed * on_device},
        "rows": [_row(planner, goal, count, held) for count in sorted(wanted)],
        "notes": _notes(planner),
    }


LIMITS = ("max_batch", "max_wait", "queue", "deadline", "decoders")
"""Those of a service's limits that matter here."""


def _row(planner: Planner, goal: Goal, replicas: int, held: int) -> dict[str, Any]:
    """JSON has no infinity: where nothing was answered the latencies are null."""
    outcome = planner.outcome(replicas)
    found = {name: value if isfinite(value) else None for name, value in asdict(outcome).items()}
    load = planner.demand.rate / (replicas * planner.capacity())
    return {
        "replicas": replicas,
        "met": goal.met(outcome),
        "of_capacity": load,
        **found,
        "memory_bytes": replicas * held,
    }


def _notes(planner: Planner) -> list[str]:
    """Where the plan goes beyond what was measured."""
    found, measured, demand = [], planner.figures.measured or {}, planner.demand
    if (tasks := measured.get("most_tasks", 0)) and demand.asked > FAR * tasks:
        found.append(f"{demand.asked:g} tasks a picture are reckoned from passes with {tasks} at most")
    if (largest := measured.get("largest_pass", 0)) and planner.limits.max_batch > largest:
        found.append(f"batches of up to {planner.limits.max_batch} are reckoned from passes of {largest} at most")
    if measured and not measured.get("requests"):
        found.append("decoding and HTTP are left out: the figures are without them (--sizes, extra serve)")
    return found
