"""`snow quickstart`, on a tiny CNN and a few pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from snow.cli import quickstart as command
from snow.data.samples import SAMPLES, Sample
from snow.experiments.quickstart import RECIPE, TASKS, quickstart
from snow.source import Source
from snow.training import Recipe


def test_its_recipe_and_tasks_are_for_a_few_minutes_on_two_cores() -> None:
    assert RECIPE.epochs <= 10
    assert set(TASKS) <= set(SAMPLES)
    assert len(TASKS) >= 2


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch, make_source: Callable[..., Source]) -> None:
    for name in TASKS:
        monkeypatch.setitem(SAMPLES, name, partial(_few, SAMPLES[name]))
    recipe = Recipe(epochs=1, batch_size=16, augment="none")
    small = partial(quickstart, source=make_source(image_size=32), recipe=recipe)
    monkeypatch.setattr(command, "quickstart", small)


@pytest.mark.usefixtures("_small")
def test_it_trains_two_tasks_beside_a_linear_probe_and_uses_them_again(run: Callable[..., Any], tmp_path: Path) -> None:
    first = run("quickstart", "--folder", tmp_path / "try", "--json")
    assert first.code == 0
    shown = first.json
    assert shown["trained"] == list(TASKS)
    assert [entry["task"] for entry in shown["tasks"]] == list(TASKS)
    for entry in shown["tasks"]:
        assert 0 <= entry["linear_probe"] <= 1
        assert 0 <= entry["top1"] <= 1
        assert entry["artifact_bytes"] > 4 * entry["learned_parameters"] > 0
    assert set(shown["answers"]) == set(TASKS)
    assert Path(shown["picture"]).is_file()
    assert run(*shown["next"].split()[1:]).code == 0
    again = run("quickstart", "--folder", tmp_path / "try")
    assert "were trained before" in again.out
    assert "linear probe" in again.out
    assert run("quickstart", "--folder", tmp_path / "try", "--json").json["trained"] == []


@pytest.mark.usefixtures("_small")
def test_a_folder_that_is_a_file_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "try").write_text("")
    assert "try" in refused("quickstart", "--folder", tmp_path / "try")


def _few(all_of: Callable[[int], Iterator[Sample]], seed: int) -> Iterator[Sample]:
    seen: Counter[tuple[str, str]] = Counter()
    for sample in all_of(seed):
        seen[sample.split, sample.label] += 1
        if seen[sample.split, sample.label] <= 3:
            yield sample
