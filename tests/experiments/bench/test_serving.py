"""`snow bench serving`: what is measured, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snow.errors import SnowError
from snow.experiments.bench import serving
from snow.experiments.bench.serving import ServingBench, measure_serving
from snow.methods.variant import Variant

pytestmark = pytest.mark.usefixtures("in_this_process")


def bench(**options: object) -> ServingBench:
    return ServingBench("test_resnet", 64, **{"batch_size": 2, "tasks": (1, 8), "rounds": 3, **options})


def test_ratios_are_those_of_rows_measured_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine gets slower by the round: a ratio of medians would mix rounds."""
    monkeypatch.setattr(serving, "_hub", lambda *_: {})
    monkeypatch.setattr(serving, "WARM_UP", 0)
    counts: dict[int, int] = {}

    def seconds(_engine: object, _images: object, asked: dict) -> float:
        round_ = counts[len(asked), id(asked)] = counts.get((len(asked), id(asked)), 0) + 1
        method = next(iter(asked.values()))
        kind = "source" if method is None else method.name
        return 10**round_ * {"source": 1.0, "snow": 1 + 0.1 * len(asked), "fo": 1.0, "ft": 1.0 * len(asked)}[kind]

    monkeypatch.setattr(serving, "_seconds", seconds)
    results = measure_serving(bench(sizes=()), tmp_path / "out.json")
    assert results["source"]["images_per_second"] == pytest.approx(2 / 100)
    assert results["source"]["images_per_second_range"] == pytest.approx((2 / 1000, 2 / 10))
    eight = results["snow"]["8"]
    assert eight["of_source"] == pytest.approx(1 / 1.8)
    assert eight["of_source_range"] == pytest.approx((1 / 1.8, 1 / 1.8))
    assert eight["over_ft"] == pytest.approx(8 / 1.8), "six networks are measured, eight are reckoned"
    assert set(results["ft"]) == {"1", "6"}
    assert json.loads((tmp_path / "out.json").read_text())["snow"]["8"]["over_ft"] == eight["over_ft"]


def test_engines_are_measured_side_by_side_beside_the_arithmetic_limit() -> None:
    results = measure_serving(bench(tasks=(1, 3), rounds=1, engine="folded,stacked", sizes=()))
    counts, stacked = results["multiplications"], results["engines"]["stacked"]
    assert counts["source"] > counts["snow"] > counts["fo"] > 0
    limit = counts["source"] / (counts["source"] + 3 * counts["snow"])
    assert results["snow"]["3"]["limit_of_source"] == stacked["snow"]["3"]["limit_of_source"] == pytest.approx(limit)
    assert stacked["source"]["images_per_second"] > 0
    page = serving.markdown(results)
    assert "| snow (stacked) | 3 |" in page
    assert "| source alone (stacked) |" in page


def test_it_measures_a_real_hub() -> None:
    results = measure_serving(bench(tasks=(2,), rounds=1, snow=Variant("snow:keep=0.25"), sizes=()))
    assert results["method"] == "snow:keep=0.25"
    assert results["snow"]["2"]["images_per_second"] > 0
    assert results["hub"]["tasks"] == 2
    assert results["hub"]["load_seconds"] > 0
    assert results["hub"]["resident_bytes"] > 0
    page = serving.markdown(results)
    assert "| snow | 2 |" in page
    assert "A hub of 2 tasks opens in" in page


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tasks": ()}, "at least one task"),
        ({"tasks": (0,)}, "at least one task"),
        ({"rounds": 0}, "one round"),
        ({"engine": "warp"}, "no engine 'warp'"),
        ({"snow": Variant("fo")}, "not fo"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict, told: str) -> None:
    with pytest.raises(SnowError, match=told):
        bench(**options)
