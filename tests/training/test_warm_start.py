"""Training a finished task on: where it starts, what stays, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import snow
from snow.data import SplitRecord
from snow.process.interrupt import Interrupted
from snow.training.history import StepReport
from snow.training.listeners import Listener

RECIPE = snow.Recipe(epochs=2, batch_size=8, lr=0.01, augment="none", precision="32")
RUNTIME = snow.Runtime(workers=0)


@pytest.fixture
def hub(resnet: snow.Source, tmp_path: Path) -> snow.Hub:
    return snow.Hub.create(tmp_path / "hub", resnet)


@pytest.fixture
def dataset(write_folder: Callable[..., Path], tmp_path: Path) -> snow.Dataset:
    return snow.open_dataset(write_folder(tmp_path / "pictures"), task="colours")


class StopsAt(Listener):
    """Stops the run at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            raise Interrupted("stopped here")


def loss(artifact: snow.Artifact, hub: snow.Hub, dataset: snow.Dataset) -> float:
    """Cross-entropy on the training pictures."""
    prepare = snow.data.eval_transform(hub.source.preprocessing)
    images = torch.stack([prepare(dataset.train[number][0]) for number in range(len(dataset.train))])
    with torch.no_grad():
        logits = artifact.method.eval()(hub.source(images))
    return torch.nn.functional.cross_entropy(logits, dataset.train.labels[:, 0]).item()


@pytest.mark.parametrize(
    ("method", "config"),
    [("snow", {"start": "zero"}), ("snow", {"rank": 1}), ("fo", None), ("ft", None), ("mp", None), ("head2toe", None)],
)
def test_it_trains_on_from_where_the_task_is(
    hub: snow.Hub, dataset: snow.Dataset, method: str, config: dict[str, Any] | None
) -> None:
    (first,) = snow.train(hub, dataset, RECIPE, method=method, config=config, runtime=RUNTIME)
    before = {name: value.clone() for name, value in first.method.state_dict().items()}
    still = snow.Recipe(**{**RECIPE.to_dict(), "lr": 1e-12, "weight_decay": 0.0})
    (same,) = snow.train(hub, dataset, still, runtime=RUNTIME, warm_start=True)
    learned = [name for name, _ in same.method.named_parameters()]
    assert same.method.name == method
    assert all(torch.allclose(same.method.state_dict()[name], before[name], atol=1e-6) for name in learned)
    (further,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME, warm_start=True)
    assert loss(further, hub, dataset) < loss(first, hub, dataset)
    assert [recipe["lr"] for recipe in further.training["earlier_recipes"]] == [RECIPE.lr, 1e-12]
    selected = first.method.selected_mask()
    assert further.method.selected_mask().keys() == selected.keys()
    assert all(torch.equal(mask, selected[tap]) for tap, mask in further.method.selected_mask().items())
    assert not hub.verify()["colours"].differences
    assert hub.task("colours").training == further.training


def test_a_kept_start_is_trained_on_when_asked(hub: snow.Hub, dataset: snow.Dataset) -> None:
    (first,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    assert first.metrics["history"] == []
    (further,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME, warm_start=True)
    assert len(further.metrics["history"]) == RECIPE.epochs
    changed = [name for name, value in first.method.state_dict().items() if "weight" in name]
    assert any(not torch.equal(further.method.state_dict()[name], first.method.state_dict()[name]) for name in changed)
    assert not hub.verify()["colours"].differences


def test_the_task_of_the_hub_is_as_it_was_until_the_run_ends(hub: snow.Hub, dataset: snow.Dataset) -> None:
    snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    before = {name: value.clone() for name, value in hub.task("colours").method.state_dict().items()}
    with pytest.raises(Interrupted):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[StopsAt(5)], warm_start=True)
    assert all(torch.equal(value, before[name]) for name, value in hub.task("colours").method.state_dict().items())


def test_stopped_and_resumed_it_learns_the_same_bits(hub: snow.Hub, dataset: snow.Dataset) -> None:
    snow.train(hub, dataset, RECIPE, runtime=RUNTIME)
    start = copy.deepcopy(hub.task("colours"))
    with pytest.raises(Interrupted):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, listeners=[StopsAt(5)], warm_start=True)
    with pytest.raises(snow.MismatchError, match="warm_start"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, resume=True, replace=True)
    (resumed,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME, warm_start=True, resume=True)
    hub.add(start, replace=True)
    (straight,) = snow.train(hub, dataset, RECIPE, runtime=RUNTIME, warm_start=True)
    expected = straight.method.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.method.state_dict().items())


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_a_cache_and_in_two_processes(hub: snow.Hub, dataset: snow.Dataset, devices: int) -> None:
    (first,) = snow.train(hub, dataset, RECIPE, config={"start": "zero"}, runtime=RUNTIME)
    runtime = snow.Runtime(workers=0, cache="64MB", devices=devices, accelerator="cpu")
    (further,) = snow.train(hub, dataset, RECIPE, runtime=runtime, warm_start=True)
    assert loss(further, hub, dataset) < loss(first, hub, dataset)


def test_it_needs_a_task_with_the_same_classes(
    hub: snow.Hub, dataset: snow.Dataset, write_folder: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(snow.SnowError, match="has no task 'colours'"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, warm_start=True)
    snow.train(hub, dataset, RECIPE, method="fo", runtime=RUNTIME)
    with pytest.raises(snow.SnowError, match="leave its options out"):
        snow.train(hub, dataset, RECIPE, config={"keep": 0.5}, runtime=RUNTIME, warm_start=True)
    other = snow.open_dataset(write_folder(tmp_path / "other", classes=("a", "b", "c")), task="colours")
    with pytest.raises(snow.MismatchError, match="has the classes blue, green, red, and the data a, b, c"):
        snow.train(hub, other, RECIPE, runtime=RUNTIME, warm_start=True)


def test_test_pictures_that_the_task_was_trained_on_are_told(
    hub: snow.Hub, write_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "pictures", test=0)
    snow.train(hub, snow.open_dataset(folder, task="colours"), RECIPE, runtime=RUNTIME)
    snow.train(hub, snow.open_dataset(folder, task="colours"), RECIPE, runtime=RUNTIME, warm_start=True)
    assert "training pictures" not in caplog.text
    snow.train(hub, snow.open_dataset(folder, task="colours", seed=5), RECIPE, runtime=RUNTIME, warm_start=True)
    assert "test pictures are training pictures of task colours: use its seed and test fraction" in caplog.text
    record = SplitRecord.from_dict(hub.task("colours").training["split"])
    assert record.held_out & record.trained, "what was learned before stays known"
