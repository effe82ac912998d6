"""What version 0.1.0 saved opens and answers as it did: hubs, results, the checkpoint of a run that was stopped.

`tests/saved/make.py` wrote it all. Whether answers are the same to the bit only the processor that they were recorded
on can tell: `python tests/saved/compare_exactly.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from saved.small import (
    COMMANDS,
    HERE,
    HUBS,
    RECIPE,
    STOPPED,
    answers,
    choices,
    colours,
    unpack,
    write_colours,
)

from snow import METHODS, SUBSCRIPTIONS, Artifact, Hub, Recipe, SnowError, train
from snow.cli import main

OFF = 1e-4
"""How far answers may be off on another processor, beside the largest of a task."""

LATER = {"partial", "tail"}
"""Methods that version 0.1.0 did not have."""

Opened = dict[str, Hub]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every hub. Only to be read."""
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("saved")
    for name in HUBS:
        unpack(name, folder)
    return folder


@pytest.fixture(scope="module")
def opened(place: Path) -> Opened:
    return {name: Hub.open(place / name) for name in HUBS}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this process is in, with what the commands that wrote `results` found, and what they wrote."""
    unpack("plain", tmp_path)
    for name in ("colours", "dtd10"):
        write_colours(tmp_path / name)
    shutil.copytree(HERE / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: Path | str) -> Any:
    return json.loads(Path(path).read_text("utf-8"))


def test_every_method_and_subscription_is_there(opened: Opened) -> None:
    methods = [hub.task(name).method for hub in opened.values() for name in hub.names()]
    assert {method.name for method in methods} == METHODS.keys() - LATER
    snow = [method.config for method in methods if method.name == "snow"]
    assert {config["options"]["subscription"] for config in snow} == SUBSCRIPTIONS.keys()
    assert {config["plan"]["family"] for config in snow} == {"basic", "bottleneck", "general", "mbconv"}


def test_every_task_opens(opened: Opened) -> None:
    names = [f"{name}/{task}" for name, hub in opened.items() for task in hub.names()]
    assert sorted(names) == sorted(load_file(HERE / "expected.safetensors"))
    assert {name: hub.broken() for name, hub in opened.items()} == dict.fromkeys(HUBS, {})


def test_every_task_answers_as_it_did(place: Path) -> None:
    found = answers(place)
    for name, before in load_file(HERE / "expected.safetensors").items():
        assert found[name].dtype == before.dtype
        torch.testing.assert_close(found[name], before, rtol=0.0, atol=OFF * before.abs().max().item(), msg=name)


@pytest.mark.parametrize("name", HUBS)
def test_tensors_keep_their_names(name: str, opened: Opened) -> None:
    hub = opened[name]
    for task in hub.names():
        saved, loaded = load_file(hub.folder(task) / "model.safetensors"), hub.task(task).method.state_dict()
        assert saved.keys() == loaded.keys(), task
        assert all(torch.equal(saved[key], loaded[key]) for key in saved), task


@pytest.mark.parametrize("name", HUBS)
def test_every_task_is_what_it_was_when_it_was_added(name: str, opened: Opened) -> None:
    verdicts = opened[name].verify()
    assert {task: verdict.differences for task, verdict in verdicts.items()} == dict.fromkeys(opened[name].names(), ())
    assert [task for task, verdict in verdicts.items() if not verdict.recorded] == ["snow-before"] * (name == "plain")


def test_saved_again_a_task_says_the_same(opened: Opened, tmp_path: Path) -> None:
    """All but the versions that it was saved with, and what it was before it had a choice."""
    for name, hub in opened.items():
        for task in hub.names():
            loaded = Artifact.load(hub.folder(task), hub.source)
            again = loaded.save(tmp_path / name / task)
            before, after = (read(folder / "config.json") for folder in (hub.folder(task), again))
            del before["versions"], after["versions"]
            if task == "snow-before":
                before["config"]["options"] |= {"patchify": False, "readout": 0.0, "rank": 0}
                before["config"]["plan"]["patchify"] = False
            assert after == before
            assert read(again / "metrics.json") == read(hub.folder(task) / "metrics.json")


def test_a_saved_task_can_be_copied_to_another_hub(opened: Opened, tmp_path: Path) -> None:
    for name, hub in opened.items():
        other = Hub.create(tmp_path / name, hub.source)
        for task in hub.names():
            other.copy(hub.folder(task), task)
        assert other.names() == hub.names()


def test_choices_over_time_are_read_as_they_were_kept(place: Path) -> None:
    assert choices(place) == read(HERE / "choices.json")


@pytest.mark.parametrize("method", ["lf", "pn"])
def test_a_new_task_builds_on_a_saved_one(method: str, opened: Opened, tmp_path: Path) -> None:
    hub = Hub(Path(shutil.copytree(opened["plain"].path, tmp_path / "hub")), opened["plain"].source)
    earlier = {name: hub.task(name).method for name in (method, f"{method}-second")}
    train(hub, colours("third"), Recipe.from_dict({**RECIPE, "epochs": 1}), method=method, config={"earlier": earlier})
    assert "third" in hub.names()


def test_a_stopped_run_goes_on_or_is_refused(opened: Opened, tmp_path: Path) -> None:
    hub = Hub(Path(shutil.copytree(opened["plain"].path, tmp_path / "hub")), opened["plain"].source)
    checkpoint = hub.path / "runs" / "stopped" / "checkpoint.pt"
    before = torch.load(checkpoint, weights_only=True)["history"]
    refused = gone_on(hub)
    if refused is not None:
        assert "checkpoint.pt" in refused
        assert "\n" not in refused
        return
    history = hub.task("stopped").metrics["history"]
    assert len(before) == 1
    assert history[:1] == before, "what was learned is not learned again"
    assert len(history) == RECIPE["epochs"]
    assert not checkpoint.exists()


def gone_on(hub: Hub) -> str | None:
    """With the task that was stopped; why not, if not."""
    try:
        train(hub, colours("stopped"), Recipe.from_dict(RECIPE), config=STOPPED, resume=True)
    except SnowError as refused:
        return str(refused)
    return None


KEPT = {
    "compare": "compare.json",
    "lifelong": "lifelong.json",
    "sweep": "sweep.json",
    "table5": "reproduction/table5.measured.json",
    "table7": "reproduction/comparisons/dtd10-own-split.json",
}
ORIGIN = {"command", "date", "versions", "hardware"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_goes_on_from_its_results(name: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured again, and what was is drawn."""
    pytest.importorskip("optuna")
    pytest.importorskip("matplotlib")
    kept = desk / "results" / KEPT[name]
    before = read(kept)
    draw = () if name.startswith("table") else ("--plot=drawn.png",)
    assert main([*COMMANDS[name], *draw]) == 0
    assert " …\n" not in capsys.readouterr().err
    after = read(kept)
    assert {key: value for key, value in after.items() if key not in ORIGIN} == {
        key: value for key, value in before.items() if key not in ORIGIN
    }
    assert (desk / "drawn.png").exists() or name.startswith("table")


@pytest.mark.parametrize(("name", "further"), [("compare", "--methods=fo,snow,fe"), ("sweep", "--over=keep=1/2,1/4,1")])
def test_a_command_adds_to_its_results(name: str, further: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    kept = desk / "results" / KEPT[name]
    before = read(kept)
    option = further.split("=")[0]
    costs = ["--no-costs"] if name == "compare" else []
    assert main([*(further if one.startswith(option) else one for one in COMMANDS[name]), *costs]) == 0
    assert " …\n" in capsys.readouterr().err
    after = read(kept)
    if name == "sweep":
        assert after["trials"][: len(before["trials"])] == before["trials"]
        assert len(after["trials"]) == len(before["trials"]) + 1
    else:
        assert {label: after["methods"][label] for label in before["methods"]} == before["methods"]
        assert list(after["methods"]) == [*before["methods"], "fe"]


def test_a_plan_is_made_of_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    load = ["--rate=1", "--goal=9000", "--pictures=1000", "--replicas=5", "--json"]
    assert main(["plan", str(HERE / "results" / "serving.json"), *load]) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["source_name"] == "saved_plain"
