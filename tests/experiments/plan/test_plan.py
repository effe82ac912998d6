"""How many replicas, found and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow.errors import SnowError
from snow.experiments.plan import Demand, Goal, Measurements, Planner, TaskMix, plan_replicas
from snow.experiments.plan.table import check_rows, compare_figures
from snow.experiments.plots.plan import draw_plan
from snow.serving.limits import Limits

PICTURES = 6_000


@pytest.fixture
def planner(measured: Callable[..., dict]) -> Callable[..., Planner]:
    measurements = Measurements.of([("figures", measured())])

    def make(rate: float = 400, tasks: int = 6, mix: TaskMix | None = None, **options: Any) -> Planner:
        return Planner(measurements, Demand(rate, tasks, mix or TaskMix()), **{"pictures": PICTURES, **options})

    return make


def test_the_fewest_replicas_that_meet_the_goal_are_found(planner: Callable[..., Planner]) -> None:
    one, goal = planner(), Goal(0.3)
    needed = one.replicas_for(goal)
    assert needed >= one.fewest_for_capacity() > 1
    assert goal.met(one.outcome(needed))
    assert not goal.met(one.outcome(needed - 1))


def test_capacity_is_where_it_saturates(planner: Callable[..., Planner]) -> None:
    """Full batches of 16 take 70 ms and 54 ms for six tasks."""
    one = planner()
    assert one.capacity() == pytest.approx(16 / 0.124)
    assert planner(rate=3 * one.capacity()).outcome(1).per_second == pytest.approx(one.capacity(), rel=0.02)
    below = planner(rate=0.9 * one.capacity()).outcome(1)
    assert below.refused == 0
    assert below.per_second == pytest.approx(0.9 * one.capacity(), rel=0.03)


@pytest.mark.parametrize("routing", ["random", "least"])
def test_more_replicas_are_never_worse(planner: Callable[..., Planner], routing: str) -> None:
    one = planner(routing=routing)
    fewest_for_capacity = one.fewest_for_capacity()
    outcomes = [
        one.outcome(replicas)
        for replicas in (fewest_for_capacity // 2, *range(fewest_for_capacity - 1, fewest_for_capacity + 6))
    ]
    for fewer, more in zip(outcomes, outcomes[1:], strict=False):
        assert more.p99 <= fewer.p99
        assert more.refused <= fewer.refused
        assert more.utilisation <= fewer.utilisation + 0.005
    assert outcomes[0].refused > 0.1


def test_the_same_seed_gives_the_same_plan(planner: Callable[..., Planner]) -> None:
    mix = TaskMix((1, 5), (0.5, 0.5))
    first, again, other = (plan_replicas(planner(tasks=40, mix=mix, seed=seed), Goal(0.4)) for seed in (1, 1, 2))
    assert first == again
    assert first["rows"] != other["rows"]


def test_asking_for_less_takes_fewer(planner: Callable[..., Planner]) -> None:
    few, many = (planner(tasks=60, mix=TaskMix((count,), (1.0,))).replicas_for(Goal(0.3)) for count in (1, 4))
    assert few < many


def test_thousands_of_tasks_and_of_replicas_take_seconds(planner: Callable[..., Planner]) -> None:
    """What is simulated does not grow with them."""
    results = plan_replicas(planner(rate=200_000, tasks=5_000, mix=TaskMix((1, 20), (0.9, 0.1))), Goal(1.0))
    assert results["replicas"] > 1_000
    assert results["memory_bytes"]["replica"] == 500_000_000 + 4_994 * 2_000_000
    assert results["memory_bytes"]["all"] == results["replicas"] * results["memory_bytes"]["replica"]
    assert results["notes"] == []


def test_going_beyond_what_was_measured_is_said(planner: Callable[..., Planner]) -> None:
    results = plan_replicas(planner(rate=5, tasks=100, limits=Limits(max_batch=64, max_pictures=1)), Goal(2.0), [40])
    assert results["notes"] == [
        "100 tasks per picture are extrapolated from passes with at most 6",
        "batches of up to 64 are extrapolated from passes of at most 16",
    ]
    assert 40 in [row["replicas"] for row in results["rows"]]


def test_a_goal_below_a_lone_picture_cannot_be_had(planner: Callable[..., Planner]) -> None:
    with pytest.raises(SnowError, match=r"on an idle replica a picture takes 26.5 ms, 4 ms of it waiting"):
        planner().replicas_for(Goal(0.026))


def test_a_goal_that_single_passes_miss_is_given_up(measured: Callable[..., dict]) -> None:
    results = measured()
    for one in results["service"]["passes"]:
        one["samples"] = [*one["samples"], 10 * one["seconds"]]
    measurements = Measurements.of([("figures", results)])
    with pytest.raises(SnowError, match="the time of single passes"):
        Planner(measurements, Demand(50, 6), pictures=2_000).replicas_for(Goal(0.1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Demand(0, 1), "above 0, not 0"),
        (lambda: Demand(float("nan"), 1), "above 0, not nan"),
        (lambda: Demand(1, 0), "at least one task, not 0"),
        (lambda: Demand(1, 2, TaskMix((3,), (1.0,))), "requests 3 tasks, but the hub has 2"),
        (lambda: Goal(0), "above 0 ms"),
        (lambda: Goal(1, 1.0), "at least 0 and below 1"),
    ],
)
def test_what_is_impossible_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(SnowError, match=told):
        make()


def test_it_can_be_drawn(planner: Callable[..., Planner], tmp_path: Path) -> None:
    results = plan_replicas(planner(rate=100, pictures=2_000), Goal(0.4))
    draw_plan(results, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    draw_plan(results, tmp_path / "plan.svg")
    assert (tmp_path / "plan.svg").read_text().count("replicas") >= 1


def test_medians_of_plans_are_compared_with_medians_of_loads() -> None:
    loads = [{"p50": value, "p90": value} for value in (10.0, 14.0, 11.0)]
    plans = [{"p50": value, "p95": value} for value in (11.0, 12.1, 40.0)]
    compared = compare_figures(loads, plans)
    assert compared == {
        "p50": {
            "measured": {"median": 11.0, "least": 10.0, "most": 14.0},
            "planned": {"median": 12.1, "least": 11.0, "most": 40.0},
            "off": 0.1,
        }
    }
    assert check_rows({"planned": {"40 %": compared}}) == [
        ("40 %", "p50 ms", "11.0 (10.0–14.0)", "12.1 (11.0–40.0)", "+10 %")
    ]
