"""`snow plan`, from what `snow bench serving` wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow.store import read_json

MEASURE = ("--source", "test_resnet", "--image-size", "64", "--batch-size", "2", "--rounds", "1", "--tasks", "1,3")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured here and now: what a plan makes of it nobody knows before."""
    from snow.cli.app import main

    file = tmp_path_factory.mktemp("figures") / "figures.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snow.process.subprocesses.in_subprocess", lambda _, call: call())
        patch.setattr("snow.experiments.bench.requests.REQUESTS", 10)
        assert main(["bench", "serving", *MEASURE, "--sizes", "1,2", "--out", str(file)]) == 0
    return file


def test_a_plan(run: Callable[..., Any], figures: Path, tmp_path: Path) -> None:
    load = ("--rate", "1", "--goal", "9000", "--pictures", "1000", "--replicas", "5")
    result = run("plan", figures, *load, "--tasks", "30", "--mix", "1:0.5,3:0.5", "--plot", tmp_path / "plan.png")
    assert result.code == 0
    assert result.out.split()[0] == "replicas"
    assert "met (needed)" in result.out
    assert "1 pictures/s, each for 1:0.5,3:0.5 of 30 tasks, with a p99 of 9000 ms: " in result.out
    assert (tmp_path / "plan.png").exists()
    found = run("plan", figures, *load, "--json").json
    assert found["tasks"] == 3, "as many as were measured"
    assert {"replicas", "p50", "p95", "p99", "refused", "utilisation", "memory_bytes"} <= set(found["rows"][0])
    assert {"command", "date", "versions", "hardware"} <= set(found)
    assert found["figures"]["source_name"] == "test_resnet"
    assert found["least_latency"] > 0.004
    rates = read_json(figures)["service"]["loads"]["rates"]
    sent = [sum(len(one["samples"]) * one["pictures"] for one in rate["passes"]) for rate in rates]
    assert len(sent) == 3
    assert set(sent) <= {8, 9, 10}, "all requests of a rate, and fewer where they would take longer"
    assert found["memory_bytes"]["replica"] > 1e8


def test_memory_may_be_said(run: Callable[..., Any], figures: Path) -> None:
    result = run("plan", figures, "--rate", "1", "--goal", "9000", "--pictures", "1000", "--memory", "750", "--json")
    assert result.json["memory_bytes"]["replica"] == 750_000_000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--rate", "-1"), "above 0, not -1"),
        (("--tasks", "0"), "at least one task"),
        (("--mix", "many"), "not 'many'"),
        (("--mix", "9"), "requests 9 tasks, but the hub has 3"),
        (("--goal", "0.001"), "on an idle replica a picture takes"),
        (("--max-batch", "0"), "max_batch must be at least 1"),
        (("--queue", "0"), "queue must be at least 1"),
        (("--routing", "magic"), "--routing"),
        (("--pictures", "10"), "at least 1000 pictures"),
        (("--replicas", "0"), "at least one replica, not 0"),
        (("--memory", "0"), "above 0, not 0"),
        (("--plot", "plan.txt"), "no image format"),
    ],
)
def test_a_wrong_plan_is_refused(
    refused: Callable[..., str], figures: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in refused("plan", figures, *options)


def test_a_plan_without_figures_says_how_to_get_them(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "snow bench serving --out" in refused("plan")
    assert "there is no file" in refused("plan", tmp_path / "nothing.json")
