"""The pages that are written from results are what the results say."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from snow.reproduce import EXPERIMENTS

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("benchmarks", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


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
    page = copy / "docs" / "reproduction.md"
    before = page.read_text("utf-8")
    page.write_text(before.replace("26.8", "26.9", 1), "utf-8")
    told = report(copy, "--check")
    assert told == "docs/reproduction.md: not what the results say: run python benchmarks/report.py"
    assert report(copy) is None
    assert page.read_text("utf-8") == before


def test_results_change_the_page(copy: Path) -> None:
    file = copy / "benchmarks" / "results" / "table5-resnet50.json"
    results = json.loads(file.read_text("utf-8"))
    results["methods"]["fo"]["total"] = 99_900_000
    file.write_text(json.dumps(results), "utf-8")
    assert report(copy) is None
    assert "| fo | 26.8 | 99.9 |" in (copy / "docs" / "reproduction.md").read_text("utf-8")


def test_every_table_and_figure_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    for experiment in EXPERIMENTS.values():
        assert f"## {experiment.title}\n" in page
        assert experiment.differs in page
