"""`snow eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snow.data import Dataset, Pictures, Task
from snow.training import evaluate as evaluating
from snow.training.checkpoint import data_digest

Run = Callable[..., Any]


def test_it_measures_what_training_measured(run: Run, learned: Path, colours: Path) -> None:
    result = run("eval", learned, colours, "--task", "colours", "--batch-size", "8", "--json")
    assert result.code == 0
    measured = result.json
    assert measured.pop("per_class").keys() == {"blue", "green", "red"}
    assert measured == {**from_training(learned, "colours"), "measured": "test"}
    assert result.err == "measured: the test part of the data, 12 pictures\n"


def from_training(hub: Path, task: str) -> dict[str, Any]:
    """What training measured, in batches of 8: some processors round larger ones otherwise."""
    return json.loads((hub / "tasks" / task / "metrics.json").read_text())["test"]


def test_another_part_can_be_measured(run: Run, learned: Path, colours: Path) -> None:
    parts = {part: run("eval", learned, colours, "--task", "colours", "--split", part, "--json") for part in PARTS}
    assert {part: result.json["images"] for part, result in parts.items()} == PARTS


PARTS = {"test": 12, "train": 24, "all": 36}


def test_classes_meet_by_name_and_not_by_position(run: Run, hub: Path, pictures: Path) -> None:
    config = hub / "tasks" / "colours" / "config.json"
    values = json.loads(config.read_text())
    values["classes"] = ["red", "green", "blue"]
    config.write_text(json.dumps(values))
    (config.parent / "fingerprint.json").unlink()  # else the task counts as damaged
    assert run("eval", hub, pictures, "--task", "colours", "--json").json["top1"] < 0.5
    for part in ("train", "test"):
        for old, new in (("red", "was-red"), ("blue", "red"), ("was-red", "blue")):
            (pictures / part / old).rename(pictures / part / new)
    assert run("eval", hub, pictures, "--task", "colours", "--json").json["top1"] > 0.8


def test_other_classes_are_refused(refused: Callable[..., str], learned: Path, pictures: Path) -> None:
    for part in ("train", "test"):
        (pictures / part / "red").rename(pictures / part / "pink")
    told = refused("eval", learned, pictures, "--task", "colours")
    assert "it lacks red and it has pink" in told


def test_bad_pictures_are_named_and_not_counted(run: Run, learned: Path, pictures: Path) -> None:
    broken = sorted((pictures / "test" / "red").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:60])
    result = run("eval", learned, pictures, "--task", "colours", "--json")
    assert result.json["images"] == 11
    assert result.err.splitlines() == [
        f"warning: skipped {broken}: the picture is truncated",
        "measured: the test part of the data, 11 pictures",
    ]


FLAT = ("--test-fraction", "0.5", "--seed", "3", "--epochs", "1", "--batch-size", "8", "--workers", "0")


@pytest.fixture
def flat(run: Run, hub: Path, pictures: Path) -> Path:
    """Pictures without a test part, of which the task `flat` of `hub` has learned one half."""
    folder = pictures / "train"
    assert run("train", folder, "--task", "flat", "--hub", hub, "--method", "fo", *FLAT).code == 0
    return folder


def whole(figures: dict[str, Any]) -> dict[str, Any]:
    """Leave out the figures of each class."""
    return {key: value for key, value in figures.items() if key != "per_class"}


def test_without_a_test_part_it_measures_the_pictures_that_training_held_out(run: Run, hub: Path, flat: Path) -> None:
    measured = {**from_training(hub, "flat"), "measured": "held-out"}
    assert measured["images"] == 12
    result = run("eval", hub, flat, "--task", "flat", "--batch-size", "8", "--json")
    assert whole(result.json) == measured
    assert result.err == "measured: what training held out, 12 pictures; 12 others are not measured\n"
    (flat / "red" / "0-broken.jpg").touch()
    moved = flat.rename(flat.with_name("elsewhere"))
    for number, path in enumerate(sorted((moved / "blue").iterdir())):
        path.rename(path.with_name(f"renamed-{number}.png"))
    assert whole(run("eval", hub, moved, "--task", "flat", "--batch-size", "8", "--json").json) == measured


def test_other_pictures_are_all_measured(run: Run, hub: Path, flat: Path, pictures: Path) -> None:
    result = run("eval", hub, pictures / "test", "--task", "flat", "--json")
    assert (result.json["images"], result.json["measured"]) == (12, "all")
    assert "measured: all of the data, 12 pictures: it has no test part, and training held out none" in result.err
    assert "all" in run("eval", hub, pictures / "test", "--task", "flat").out.splitlines()[1]


def test_pictures_that_were_learned_are_said(run: Run, learned: Path, colours: Path) -> None:
    result = run("eval", learned, colours / "train", "--task", "colours")
    assert "warning: 24 of the 24 pictures measured are training pictures of the task, such as " in result.err


def test_a_task_of_0_1_has_no_record_and_its_held_out_part_is_drawn_again(run: Run, hub: Path, flat: Path) -> None:
    config = hub / "tasks" / "flat" / "config.json"
    values = json.loads(config.read_text())
    del values["training"]["split"]
    values["training"]["data"]["fingerprint"] = data_digest(all_of(flat).held_out(0.5, 3))
    config.write_text(json.dumps(values))
    (config.parent / "fingerprint.json").unlink()  # else the task counts as damaged
    result = run("eval", hub, flat, "--task", "flat", "--json")
    assert (result.json["images"], result.json["measured"]) == (12, "held-out")
    next(iter(flat.rglob("*.png"))).unlink()
    result = run("eval", hub, flat, "--task", "flat", "--json")
    assert (result.json["images"], result.json["measured"]) == (23, "all")
    assert "task flat has no record of what it held out: pictures that it learned may be among these" in result.err


def all_of(flat: Path) -> Dataset:
    """All pictures as training pictures, as version 0.1 had them before it drew the parts."""
    task = Task("flat", ("blue", "green", "red"))
    paths = sorted(flat.rglob("*.png"))
    labels = torch.tensor([task.classes.index(path.parent.name) for path in paths])
    pictures = Pictures(paths, labels)
    return Dataset((task,), pictures, pictures.subset([]))


def test_a_damaged_record_is_one_line(refused: Callable[..., str], hub: Path, colours: Path) -> None:
    config = hub / "tasks" / "colours" / "config.json"
    values = json.loads(config.read_text())
    values["training"]["split"]["format"] = 7
    config.write_text(json.dumps(values))
    (config.parent / "fingerprint.json").unlink()  # else the task counts as damaged
    assert "recorded in format 7" in refused("eval", hub, colours, "--task", "colours")


def test_a_table_beside_its_pictures_is_measured(run: Run, learned: Path, pictures: Path) -> None:
    lines = ["path,label", *(f"{path.name},{path.parent.name}" for path in sorted((pictures / "test/red").iterdir()))]
    (pictures / "table.csv").write_text("\n".join(lines))
    options = ("--task", "colours", "--root", pictures / "test/red", "--json")
    result = run("eval", learned, pictures / "table.csv", *options)
    assert (result.json["images"], result.json["measured"]) == (4, "all")
    assert f"warning: {pictures}/table.csv: no picture of blue, green" in result.err


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_it_computes_as_training_did(
    precision: str, run: Run, learned: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the folded source: in bf16 the other one answers a little otherwise."""
    sources = []
    original = evaluating.LiveFeatures
    monkeypatch.setattr(evaluating, "LiveFeatures", lambda *given: sources.append(given[0]) or original(*given))
    assert run("eval", learned, colours, "--task", "colours", "--precision", precision).code == 0
    (source,) = sources
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in source.cnn.modules())


def test_figures_of_each_class_add_up(run: Run, hub: Path, pictures: Path) -> None:
    """Two green pictures lie in the folder of red ones."""
    for number, path in enumerate(sorted((pictures / "test" / "green").iterdir())[:2]):
        path.rename(pictures / "test" / "red" / f"green-{number}.png")
    measured = run("eval", hub, pictures, "--task", "colours", "--json").json
    classes = measured["per_class"]
    assert {name: entry["images"] for name, entry in classes.items()} == {"blue": 4, "green": 2, "red": 6}
    assert sum(entry["correct"] for entry in classes.values()) == round(measured["top1"] * measured["images"])
    for name, entry in classes.items():
        assert entry["recall"] == entry["correct"] / entry["images"]
        assert entry["predicted"].get(name, 0) == entry["correct"]
        assert sum(entry["predicted"].values()) == entry["images"]
    assert classes["red"]["predicted"]["green"] >= 1
    table = run("eval", hub, pictures, "--task", "colours", "--per-class")
    assert "predicted instead" in table.out
    assert f"green ({classes['red']['predicted']['green']})" in table.out
    assert "predicted instead" not in run("eval", hub, pictures, "--task", "colours").out


@pytest.mark.parametrize("command", ["train", "eval", "predict", "export"])
@pytest.mark.parametrize("device", ["cuda:7", "abacus"])
def test_a_device_that_is_not_there_is_refused(
    refused: Callable[..., str], hub: Path, pictures: Path, tmp_path: Path, command: str, device: str
) -> None:
    arguments = {
        "train": (pictures, "--hub", hub, "--task", "new"),
        "eval": (hub, pictures, "--task", "colours"),
        "predict": (hub, pictures),
        "export": (hub, tmp_path / "hub.pt2"),
    }
    assert device in refused(command, *arguments[command], "--device", device)


def test_the_cpu_is_a_device(run: Run, hub: Path, pictures: Path) -> None:
    assert run("eval", hub, pictures, "--task", "colours", "--device", "cpu").code == 0
    assert run("predict", hub, pictures / "test", "--device", "auto").code == 0
