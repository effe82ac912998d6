"""What becomes of a load: a simulation of one replica, or of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import numpy as np

from snow.experiments.plan.replica import Replica

Routing = Literal["random", "least"]

GROUP = 16
"""Replicas that stand for all where each request goes to the least loaded one."""

FOREVER = 1e300
"""When everything has been answered: seconds, and less than infinity."""

WARM_UP = 0.1
"""Part of the pictures that come before anything is counted."""


@dataclass(frozen=True)
class Outcome:
    """Of one load.

    Attributes:
        utilisation: part of the time that a replica spends in passes.
        per_second: pictures answered by one replica.
        p50, p95, p99: seconds from arrival to answer; infinite where nothing was answered.
        refused: part of the pictures that were turned away, or had no answer within the deadline.
        batch: pictures in a pass, in the mean.
    """

    utilisation: float
    per_second: float
    p50: float
    p95: float
    p99: float
    refused: float
    batch: float


def simulate(
    new: Callable[[], Replica],
    rate: float,
    replicas: int = 1,
    routing: Routing = "random",
    pictures: int = 30_000,
    seed: int = 0,
) -> Outcome:
    """Pictures come at random moments (a Poisson process) and go to one of the replicas.

    A Poisson process whose events are dealt out at random falls into independent Poisson processes, each with its share
    of the rate: so under random routing one replica at its share tells what all of them do. Where the least loaded
    replica is chosen they depend on each other, and are simulated together: all, or a group of `GROUP` at its share of
    the rate, for which there is less to choose from, so that latencies are rather too high than too low.

    Args:
        new: a replica to which nothing has come.
        rate: pictures a second, to all replicas.
        pictures: how many come.
        seed: the same moments, but for the rate, in every call.
    """
    group = [new() for _ in range(min(replicas, GROUP) if routing == "least" else 1)]
    gaps = np.random.default_rng(seed).exponential(size=pictures)
    moments: list[float] = (gaps.cumsum() * (replicas / len(group) / rate)).tolist()
    if len(group) == 1:
        _to_one(group[0], moments)
    else:
        _to_least(group, moments)
    return _counted(group, moments)


def _to_one(replica: Replica, moments: Sequence[float]) -> None:
    for now in moments:
        if replica.next <= now:
            replica.until(now)
        replica.arrive(now)
    replica.until(FOREVER)


def _to_least(group: Sequence[Replica], moments: Sequence[float]) -> None:
    """Among those that are least loaded they take turns."""
    for number, now in enumerate(moments):
        for replica in group:
            if replica.next <= now:
                replica.until(now)
        best = group[number % len(group)]
        for replica in group:
            if replica.taken < best.taken:
                best = replica
        best.arrive(now)
    for replica in group:
        replica.until(FOREVER)


def _counted(group: Sequence[Replica], moments: Sequence[float]) -> Outcome:
    begun, last = moments[int(WARM_UP * len(moments))], moments[-1]
    answered = np.array([pair for one in group for pair in one.answered if pair[0] >= begun]).reshape(-1, 2)
    refused = sum(came >= begun for one in group for came in one.refused)
    took = answered[:, 1] - answered[:, 0]
    p50, p95, p99 = np.quantile(took, (0.5, 0.95, 0.99)).tolist() if len(took) else (inf, inf, inf)
    passes, all_answered = sum(one.passes for one in group), sum(len(one.answered) for one in group)
    end = max([last, *(one.answered[-1][1] for one in group if one.answered)])
    in_time = sum(done >= begun for one in group for _, done in one.answered)
    return Outcome(
        sum(one.busy for one in group) / (end * len(group)),
        in_time / ((end - begun) * len(group)),
        p50,
        p95,
        p99,
        refused / (refused + len(took)),
        all_answered / passes if passes else nan,
    )
