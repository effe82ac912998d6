"""The pages that are written from results are what the results say."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from snow.experiments.reproduce import EXPERIMENTS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # `report.py` imports its neighbours from there


def copied(root: Path) -> Path:
    for folder in ("benchmarks", "docs"):
        shutil.copytree(ROOT / folder, root / folder)
    return root


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copied(tmp_path)


def report(root: Path, *options: str) -> str | None:
    """Runs `benchmarks/report.py` of a copy, and returns what it says is wrong."""
    spec = importlib.util.spec_from_file_location("report", root / "benchmarks" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(options)


def test_the_committed_pages_are_what_the_results_say(copy: Path) -> None:
    assert report(copy, "--check") is None


def test_a_page_that_was_edited_is_found_and_written_anew(copy: Path) -> None:
    page, file = copy / "docs" / "reproduction.md", copy / "benchmarks" / "results" / "table5-resnet50.json"
    before = page.read_text("utf-8")
    page.write_text(before.replace("26.8", "26.9"), "utf-8")
    told = report(copy, "--check")
    assert told == "docs/reproduction.md does not match the results: run python benchmarks/report.py"
    results = json.loads(file.read_text("utf-8"))
    row = f"| fo | 26.8 | {results['methods']['fo']['total'] / 1e6:.1f} |"
    assert row in before
    results["methods"]["fo"]["total"] = 99_900_000
    file.write_text(json.dumps(results), "utf-8")
    assert report(copy) is None
    assert page.read_text("utf-8") == before.replace(row, "| fo | 26.8 | 99.9 |")


PROVENANCE = {
    "command": "python some.py",
    "date": "2026-01-02",
    "versions": {"torch": "2.14"},
    "hardware": {"cpu": "abacus", "cores": 2, "gpu": None},
}
SPEED = {"median": 3.0, "least": 2.0, "most": 4.0}
LOAD = {
    "requests": 1200,
    "ended": {"answered": 200, "queue_full": 1000},
    **{"per_second": 50.0, "batch": 4.0, "p50": 90.0, "p99": 180.0},
    "memory_bytes": {"before": 1e9, "most": 2e9, "after": 1.5e9},
}


RESULTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (
        {
            "images_per_second": {"together": SPEED, "one_after_another": SPEED},
            "speedup": {"median": 1.82, "least": 1.7, "most": 1.9},
            "tasks": 3,
            "source": "resnet50",
            "image_size": 224,
            "batch_size": 32,
            "method": "snow",
        },
        ("| one after another | 3.0 | 2.0 | 4.0 |", "are 1.82 times as fast (1.70–1.90)"),
    ),
    (
        {
            "ways": {
                "ft": {
                    "curve": [{"seconds": 2000.0, "accuracy": 0.5}],
                    "test": {"top1": 0.625},
                    "seconds_to_accuracy": 1000.0,
                    "over_whole_baseline": 0.5,
                },
                "snow": {
                    "curve": [{"seconds": 30.0, "accuracy": 0.25}],
                    "test": {"top1": 0.25},
                    "seconds_to_accuracy": None,
                    "over_whole_baseline": None,
                },
            },
            "source": {"architecture": "timm/x", "preprocessing": {"image_size": 96}},
            "recipes": {"ft": {"validation": 0.2, "batch_size": 32, "seed": 0}, "snow": {}},
        },
        ("| ft | 1 | 2,000 | 50.0 | 62.5 | 1,000 | 0.50 |", "| snow | 1 | 30 | 25.0 | 25.0 | never |  |"),
    ),
    (
        {
            "at_300_percent": LOAD,
            "capacity": {**LOAD, "of_engine": 0.9},
            "at_70_percent": {**LOAD, "p99_by_p50": 2.0},
            **{"engine_per_second": 55.0, "max_batch": 16, "tasks": 6, "queue": 64},
        },
        ("| at 300 percent | 50.0 | 4.0 | 90.0 | 180.0 | 1,200 |", "0.90 of the engine", "2.00 times p50"),
    ),
    (
        {
            "processes": [{"count": 2, "top1": 0.5, "of_first": 0.75, **SPEED}],
            "source": {"architecture": "timm/x", "preprocessing": {"image_size": 96}},
            "method": "snow",
            "recipe": {"batch_size": 64},
        },
        ("| 2 | 3.0 | 2.0–4.0 | 0.75 | 50.0 |", "timm/x at 96 px, method snow, batch 64 over all processes"),
    ),
    (
        {
            "tasks": 300,
            "image_size": 64,
            **{"hub_list_seconds": 0.5, "predict_seconds": 6.25, "overlap_seconds": 4.0, "verify_seconds": 7.0},
            "in_process": {"first_predict_seconds": 5.5, "predict_seconds": 0.05},
            "service": {
                **{"ready_seconds": 6.0, "list_ms": 1.25, "list_unchanged_ms": 1.0, "details_ms": 20.0},
                **{"predict_all_first_ms": 4000.0, "predict_all_ms": 1000.0},
                **{"metrics_ms": 5.0, "predict_one_ms": 12.0, "predict_one_beside_three_pages_ms": 13.0},
            },
        },
        ("| snow hub list | 0.50 s | 1 s |", "| GET /v1/tasks | 1.2 ms | 50 ms |", "300 tasks"),
    ),
    (
        {
            "settle": 5.0,
            "seconds": 20.0,
            "attacks": {
                "none": {
                    **{"requests": 60, "answered": 1.0, "p50": 0.05, "p99": 0.1},
                    **{"before": 5e8, "peak": 6e8, "after": 5.1e8},
                }
            },
        },
        ("| none | 60 | 100.0 | 50 | 100 | 500 → 600 → 510 |", "each attack of 20 s"),
    ),
    (
        {
            **{"makes": "Audi,BMW", "image_size": 128, "train": 768, "test": 263, "recipe": {"epochs": 10, "seed": 0}},
            "methods": {
                "snow": {
                    "body": {"top1": 0.711, "balanced_accuracy": 0.605, "ece": 0.08},
                    "tags": {"map": 0.695},
                    "year": {"mae": 2.587, "r2": 0.346},
                }
            },
        },
        ("| snow | 71.1 | 60.5 | 0.080 | 69.5 | 2.59 | 0.35 |", "768 pictures of cars (Audi,BMW)"),
    ),
    (
        {
            "kills": {"replace": 2, "put": 1},
            "interrupted": {"versions": 2, "folders": 1},
            "faults": {"lost": 0, "left over": 0},
            "seed": 0,
        },
        ("| kills of put | 1 |", "| tasks and files lost | 0 |", "3 kills, seed 0"),
    ),
]
"""Results of each benchmark, and what the report says of them."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on all of `RESULTS` beside those that are there: to write it takes seconds."""
    root = copied(tmp_path_factory.mktemp("report"))
    for number, (results, _) in enumerate(RESULTS):
        path = root / "benchmarks" / "results" / f"some-{number}.json"
        path.write_text(json.dumps({**PROVENANCE, **results}), "utf-8")
    assert report(root) is None
    return (root / "benchmarks" / "REPORT.md").read_text("utf-8")


@pytest.mark.parametrize(("number", "told"), list(enumerate(told for _, told in RESULTS)))
def test_results_of_every_benchmark_are_shown(shown: str, number: int, told: tuple[str, ...]) -> None:
    _, _, section = shown.partition(f"## some-{number}\n")
    section, _, _ = section.partition("\n## ")
    for part in (*told, "`python some.py`", "abacus, 2 cores; torch 2.14, 2026-01-02"):
        assert part in section


Results = dict[str, Any]


@pytest.fixture
def results() -> Results:
    paths = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}


def verdicts(results: Results) -> dict[str, str]:
    """Claim -> verdict, from the first page of the report."""
    first, _, _ = import_module("findings").page(results.items()).partition("### Why")
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[3] for cells in rows[2:]}


def test_verdicts_follow_from_the_results(results: Results) -> None:
    faster = "SNOW trains several times as fast as fine-tuning (resnet50, CPU, batch 32, precision auto)"
    probe = "SNOW is more accurate than a linear probe (FO), cars196-own-split"
    before = verdicts(results)
    assert before[faster] == "holds"
    assert before[probe] == "holds, by less than in the paper"
    results["table8-resnet50"]["methods"]["ft"]["images_per_second"] *= 2
    comparison = results["table7-cars196-128-60"]["sets"][0]["comparison"]
    columns = comparison["methods"]["snow:preset=paper:pooling.slots=channel"]
    columns["top1"] = 0.3
    after = verdicts(results)
    assert after[faster] == "does not hold: 54 % less"
    assert after[probe] == "does not hold"
    columns["top1"] = 0.8
    assert verdicts(results)[probe] == "holds"
    comparison["recipe"]["epochs"] = 6
    assert verdicts(results)[probe] == "not settled: holds after 6 epochs"


def test_what_is_not_measured_is_named() -> None:
    found = verdicts({})
    assert found["SNOW serves six tasks several times as fast as six tuned copies"] == (
        "not measured: `snow reproduce table5`"
    )
    assert found["These speeds on a GPU"] == "not measured: `python benchmarks/gpu.py`"


def test_every_table_and_figure_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    for experiment in EXPERIMENTS.values():
        assert f"## {experiment.title}\n" in page
        assert experiment.deviations in page
