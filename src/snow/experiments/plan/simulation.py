"""Simulate a load on one replica or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import numpy as np

from snow.experiments.plan.replica import SimulatedReplica

Routing = Literal["random", "least"]

GROUP = 16
"""Replicas simulated together, at most, under routing to the least loaded one."""

FOREVER = 1e300
"""A time after the last event, and below infinity."""

WARM_UP = 0.1
"""Fraction of the pictures that arrive before anything is counted."""


@dataclass(frozen=True)
class Outcome:
    """What one replica does under a load.

    Attributes:
        utilisation: fraction of the time spent in passes.
        per_second: pictures answered per second.
        p50, p95, p99: seconds from arrival to answer; infinite if nothing was answered.
        refused: fraction of the pictures that were refused or missed the deadline.
        batch: average pictures per pass.
    """

    utilisation: float
    per_second: float
    p50: float
    p95: float
    p99: float
    refused: float
    batch: float


def simulate(
    new: Callable[[], SimulatedReplica],
    rate: float,
    replicas: int = 1,
    routing: Routing = "random",
    pictures: int = 30_000,
    seed: int = 0,
) -> Outcome:
    """Simulate pictures that arrive as a Poisson process and are routed to one of the replicas.

    A Poisson process split at random is a set of independent Poisson processes, each with its share of the rate: under
    random routing one replica at its share stands for all. Under routing to the least loaded replica they depend on
    each other and are simulated together: all of them, or `GROUP` at their share of the rate. A smaller group has less
    choice, so its latencies are too high rather than too low.

    Args:
        new: builds an idle replica.
        rate: pictures per second, to all replicas together.
        pictures: number of arrivals to simulate.
        seed: of the arrivals; the same seed gives the same arrivals, scaled by the rate.
    """
    group = [new() for _ in range(min(replicas, GROUP) if routing == "least" else 1)]
    gaps = np.random.default_rng(seed).exponential(size=pictures)
    arrivals: list[float] = (gaps.cumsum() * (replicas / len(group) / rate)).tolist()
    if len(group) == 1:
        _feed_one(group[0], arrivals)
    else:
        _feed_least_loaded(group, arrivals)
    return _outcome(group, arrivals)


def _feed_one(replica: SimulatedReplica, arrivals: Sequence[float]) -> None:
    for now in arrivals:
        if replica.next_event <= now:
            replica.advance_to(now)
        replica.arrive(now)
    replica.advance_to(FOREVER)


def _feed_least_loaded(group: Sequence[SimulatedReplica], arrivals: Sequence[float]) -> None:
    """Send each arrival to the least loaded replica, in turn among equals."""
    for number, now in enumerate(arrivals):
        for replica in group:
            if replica.next_event <= now:
                replica.advance_to(now)
        best = group[number % len(group)]
        for replica in group:
            if replica.occupied < best.occupied:
                best = replica
        best.arrive(now)
    for replica in group:
        replica.advance_to(FOREVER)


def _outcome(group: Sequence[SimulatedReplica], arrivals: Sequence[float]) -> Outcome:
    counted_from, last = arrivals[int(WARM_UP * len(arrivals))], arrivals[-1]
    answered = np.array([pair for replica in group for pair in replica.answered if pair[0] >= counted_from]).reshape(
        -1, 2
    )
    refused = sum(arrival >= counted_from for replica in group for arrival in replica.refused)
    latencies = answered[:, 1] - answered[:, 0]
    p50, p95, p99 = np.quantile(latencies, (0.5, 0.95, 0.99)).tolist() if len(latencies) else (inf, inf, inf)
    passes = sum(replica.passes for replica in group)
    all_answered = sum(len(replica.answered) for replica in group)
    end = max([last, *(replica.answered[-1][1] for replica in group if replica.answered)])
    in_time = sum(done >= counted_from for replica in group for _, done in replica.answered)
    return Outcome(
        sum(replica.busy for replica in group) / (end * len(group)),
        in_time / ((end - counted_from) * len(group)),
        p50,
        p95,
        p99,
        refused / (refused + len(latencies)),
        all_answered / passes if passes else nan,
    )
