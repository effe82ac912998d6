"""`snow choice` and `snow overlap`: what the tasks of a hub take of their source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow.hub import Hub

Run = Callable[..., Any]


@pytest.fixture
def two(hub: Path) -> Path:
    """A second task beside `colours`, which takes the same channels."""
    folder = Path(shutil.copytree(hub / "tasks/colours", hub / "tasks/paints"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "task": "paints"}))
    (folder / "fingerprint.json").unlink()
    return hub


def test_the_choice_of_a_task(run: Run, learned: Path, tmp_path: Path) -> None:
    shown = run("choice", learned, "colours", "--json", "--plot", tmp_path / "choice.png").json
    assert (shown["task"], shown["batches"], shown["steps"]) == ("colours", 3, list(range(10)))
    taken = Hub.open(learned).task("colours").method.selected_mask()
    assert {tap: entry["chosen"] for tap, entry in shown["taps"].items()} == {
        tap: mask.nonzero().flatten().tolist() for tap, mask in taken.items()
    }
    assert all(len(entry["newcomers"]) == 9 for entry in shown["taps"].values())
    assert (tmp_path / "choice.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_of_a_choice_has_a_line_for_each_map(run: Run, learned: Path) -> None:
    lines = run("choice", learned, "colours").out.splitlines()
    assert lines[0].split()[:3] == ["tap", "channels", "selected"]
    assert {line.split()[0] for line in lines[1:]} == {*Hub.open(learned).task("colours").method.taps, "(final)"}
    assert len(run("choice", learned, "colours", "--taps", "(final)").out.splitlines()) == 2


def test_the_overlap_of_two_tasks(run: Run, two: Path, tmp_path: Path) -> None:
    shown = run("overlap", two, "--json", "--plot", tmp_path / "overlap.png").json
    assert shown["tasks"] == ["colours", "paints"]
    (pair,) = shown["pairs"]
    assert pair["iou"] == 1.0 > pair["chance"]
    assert (tmp_path / "overlap.png").read_bytes().startswith(b"\x89PNG")
    lines = run("overlap", two, "paints", "colours").out.splitlines()
    assert lines[0].split() == ["tap", "paints", "×", "colours"]
    assert lines[-1].split() == ["mean", "1.00", f"({pair['chance']:.2f})"]


def test_a_task_without_a_record_answers_and_says_so(
    run: Run, refused: Callable[..., str], hub: Path, colours: Path
) -> None:
    (hub / "tasks/colours/choice.safetensors").unlink()
    assert run("eval", hub, colours, "--task", "colours", "--workers", "0").code == 0
    assert "task colours has no choice.safetensors" in refused("choice", hub, "colours")


def test_what_is_not_there_is_refused(refused: Callable[..., str], hub: Path, tmp_path: Path) -> None:
    assert "it has colours" in refused("choice", hub, "shapes")
    assert "cannot name a task" in refused("choice", hub, "../x")
    assert "not a hub" in refused("choice", tmp_path, "colours")
    assert "no selection at 'x*'" in refused("choice", hub, "colours", "--taps", "x*")
    assert "no image format" in refused("choice", hub, "colours", "--plot", tmp_path / "choice.txt")
    assert "has colours" in refused("overlap", hub)
    assert "no task 'shapes'" in refused("overlap", hub, "colours", "shapes")


def test_overlap_goes_on_without_damaged_tasks(run: Run, two: Path) -> None:
    for name in ("third", "fourth", "fifth"):
        shutil.copytree(two / "tasks/colours", two / "tasks" / name)
    (two / "tasks/paints/config.json").write_text("{")
    assert run("overlap", two, "--json").json["tasks"] == ["colours", "fifth", "fourth", "third"]
    shutil.copytree(two / "tasks/colours", two / "tasks/sixth")
    lines = run("overlap", two).out.splitlines()
    assert lines[0].split() == ["task", "task", "mean"]
    assert len(lines) == 1 + 5 * 4 // 2, "more pairs than columns: a row for each"
    for name in ("third", "fourth", "fifth", "sixth"):
        shutil.rmtree(two / "tasks" / name)
    alone = run("overlap", two, "--json")
    assert (alone.code, alone.json) == (0, {"tasks": ["colours"], "pairs": []})
    assert "no two tasks" in alone.err
