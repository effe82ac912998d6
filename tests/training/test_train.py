"""From a hub and a data set to tasks in the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import snow
from snow.process.interrupt import Interrupted
from snow.training.history import RunInfo, StepReport
from snow.training.hub_run import run_folder
from snow.training.listeners import CsvLog, Listener

RECIPE = snow.Recipe(epochs=2, batch_size=8, lr=0.01, augment="none", precision="32")
RUNTIME = snow.Runtime(workers=0)


class Told(Listener):
    """Remembers what it heard; stops the run at `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.heard: list[str] = []

    def on_start(self, run: RunInfo) -> None:
        self.heard.append("start")

    def on_step(self, report: StepReport) -> None:
        if report.step == self.stop_at:
            raise Interrupted("stopped here")


@pytest.fixture
def hub(resnet: snow.Source, tmp_path: Path) -> snow.Hub:
    return snow.Hub.create(tmp_path / "hub", resnet)


@pytest.fixture
def dataset(write_folder: Callable[..., Path], tmp_path: Path) -> snow.Dataset:
    return snow.open_dataset(write_folder(tmp_path / "pictures"), task="colours")


def test_what_it_returns_is_in_the_hub_with_all_that_was_measured(hub: snow.Hub, dataset: snow.Dataset) -> None:
    (artifact,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME, about={"path": "pictures"})
    assert hub.names() == ["colours"]
    kept = hub.task("colours")
    assert kept.metrics == artifact.metrics
    assert kept.training == artifact.training
    measured = snow.evaluate(hub.source, {"colours": kept.method}, dataset.test, precision="32")["colours"].to_dict()
    assert kept.metrics["test"].pop("ece") == pytest.approx(measured.pop("ece"))  # a sum, in another order
    assert kept.metrics["test"] == measured
    assert kept.metrics["learned_parameters"] == kept.method.learned_parameters
    assert kept.metrics["artifact_bytes"] == kept.size
    assert kept.metrics["seconds"] > 0
    assert kept.training["recipe"] == RECIPE.to_dict()
    assert kept.training["seed"] == RECIPE.seed
    assert kept.training["data"].items() >= {"path": "pictures", "train_images": 24, "test_images": 12}.items()
    assert json.dumps(kept.metrics)


@pytest.mark.parametrize("method", ["snow", "ft", "partial"])
def test_a_task_in_few_bits_is_measured_as_it_answers(method: str, hub: snow.Hub, dataset: snow.Dataset) -> None:
    snow.train(hub, dataset, replace(RECIPE, weight_bits=4), method=method, runtime=RUNTIME)
    kept = hub.task("colours")
    assert kept.coded is not None
    assert kept.metrics["artifact_bytes"] == kept.size
    measured = snow.evaluate(hub.source, {"colours": kept.method}, dataset.test, precision="32")["colours"]
    assert kept.metrics["test"]["top1"] == measured.to_dict()["top1"]
    assert kept.metrics["test"]["ece"] == pytest.approx(measured.to_dict()["ece"], abs=1e-3)


def test_the_seed_decides_and_the_callers_random_numbers_do_not(hub: snow.Hub, dataset: snow.Dataset) -> None:
    def learned(seed: int, before: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(before)
        state = torch.get_rng_state()
        recipe = snow.Recipe.from_dict({**RECIPE.to_dict(), "epochs": 1, "seed": seed})
        (artifact,) = snow.train(hub, dataset, recipe, runtime=RUNTIME, replace=True)
        assert torch.equal(torch.get_rng_state(), state)
        return artifact.method.state_dict()

    first, again, other = learned(0, 1), learned(0, 2), learned(3, 1)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_a_taken_name_is_refused_before_anything_is_trained(hub: snow.Hub, dataset: snow.Dataset) -> None:
    snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    told = Told()
    with pytest.raises(snow.SnowError, match="has a task 'colours' already"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[told])
    assert not told.heard


def test_a_refused_run_leaves_nothing(hub: snow.Hub, dataset: snow.Dataset) -> None:
    folder = run_folder(hub.path, ["colours"])
    recipe = snow.Recipe.from_dict({**RECIPE.to_dict(), "augment": "magic"})
    with pytest.raises(snow.SnowError, match="unknown augmentation"):
        snow.train(hub, dataset, recipe, runtime=RUNTIME, listeners=[CsvLog(folder)])
    assert not folder.exists()
    assert hub.names() == []


def test_a_run_that_was_stopped_keeps_its_checkpoint_and_no_task(hub: snow.Hub, dataset: snow.Dataset) -> None:
    folder = run_folder(hub.path, ["colours"])
    config = {"start": "zero"}
    with pytest.raises(Interrupted):
        snow.train(hub, dataset, RECIPE, config=config, runtime=RUNTIME, listeners=[Told(stop_at=4)])
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    assert hub.names() == []
    snow.train(hub, dataset, RECIPE, config=config, runtime=RUNTIME, resume=True)
    assert hub.names() == ["colours"]
    assert not (folder / "checkpoint.pt").exists()


def test_a_run_that_ends_between_its_tasks_adds_the_others_when_it_is_resumed(
    hub: snow.Hub, write_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sorted(write_folder(tmp_path / "pictures", train=2, test=1).rglob("*.png"))
    rows = [f"{path},{path.parent.name},{path.parent.name[0]},{path.parent.parent.name}" for path in pictures]
    (tmp_path / "labels.csv").write_text("\n".join(["path,colour,letter,split", *rows]))
    dataset = snow.open_dataset(tmp_path / "labels.csv", labels=["colour", "letter"])
    add = snow.Hub.add

    def killed(hub: snow.Hub, artifact: snow.Artifact, replace: bool = False) -> Path:
        if artifact.name == "letter":
            raise KeyboardInterrupt
        return add(hub, artifact, replace)

    monkeypatch.setattr(snow.Hub, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    assert hub.names() == ["colour"]
    monkeypatch.undo()
    with pytest.raises(snow.MismatchError, match="has a task 'colour' already"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    before = hub.task("colour").method.state_dict()
    snow.train(hub, dataset, RECIPE, runtime=RUNTIME, resume=True)
    assert hub.names() == ["colour", "letter"]
    after = hub.task("colour").method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(path.is_file() for path in run_folder(hub.path, ["colour", "letter"]).rglob("*"))
    with pytest.raises(snow.MismatchError, match="has a task 'colour' already"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, resume=True)


def test_too_little_memory_is_one_line(hub: snow.Hub, dataset: snow.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        raise torch.OutOfMemoryError("a long story")

    monkeypatch.setattr(snow.METHODS["snow"], "forward", forward)
    with pytest.raises(snow.SnowError, match="smaller batch size"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME)


def test_an_unknown_method_is_refused_with_those_there_are(hub: snow.Hub, dataset: snow.Dataset) -> None:
    with pytest.raises(snow.SnowError, match="no method 'magic': there are snow, tail, fo"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, method="magic")


def test_a_second_run_of_a_name_is_refused_before_its_first_step(hub: snow.Hub, dataset: snow.Dataset) -> None:
    refused: list[str] = []

    class Second(Told):
        def on_start(self, run: RunInfo) -> None:
            with pytest.raises(snow.SnowError) as caught:
                snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[never], replace=True)
            refused.append(str(caught.value))

    never = Told()
    snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[Second()])
    assert refused == [f"task colours of hub {hub.path} is being trained by another process: try again later"]
    assert never.heard == []
    assert hub.names() == ["colours"]


def test_a_hub_that_cannot_take_the_task_is_refused_before_the_first_step(
    hub: snow.Hub, dataset: snow.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "tasks")
    never = Told()
    with pytest.raises(snow.SnowError, match="tasks is read-only for this user"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[never])
    assert never.heard == []
