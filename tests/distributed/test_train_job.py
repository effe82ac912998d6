"""One task on a worker of its own, also where the worker before was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snow.distributed.train_job import TrainRequest, train_job
from snow.errors import SnowError
from snow.hub import Hub
from snow.source import Source
from snow.training import Recipe, Runtime


@pytest.fixture
def colour(write_folder: Callable[..., Path], tmp_path: Path) -> TrainRequest:
    hub = Hub.create(tmp_path / "hub", Source.open("test_resnet", pretrained=False, image_size=64))
    recipe = Recipe(epochs=1, batch_size=6, augment="none", precision="32")
    pictures = write_folder(tmp_path / "pictures")
    return TrainRequest(
        hub=hub.path,
        data=str(pictures),
        task="colour",
        label=None,
        test_fraction=0.2,
        recipe=recipe,
        runtime=Runtime(workers=0),
        method="fo",
        config={},
        logs=(),
        replace=False,
    )


def content(colour: TrainRequest) -> tuple[bytes, Any]:
    model = colour.hub / "tasks" / "colour" / "model.safetensors"
    return model.read_bytes(), model.stat().st_mtime_ns


def test_what_a_lost_worker_has_added_is_not_learned_again(colour: TrainRequest) -> None:
    train_job(colour)
    before = content(colour)
    train_job(colour)
    assert content(colour) == before
    train_job(replace(colour, replace=True))
    assert content(colour) != before
    assert content(colour)[0] == before[0]


def test_a_task_that_someone_else_has_added_stays(colour: TrainRequest) -> None:
    train_job(colour)
    before = content(colour)
    with pytest.raises(SnowError, match="has a task 'colour' already"):
        train_job(replace(colour, recipe=replace(colour.recipe, seed=1)))
    assert content(colour) == before


def test_a_task_that_was_not_learned_here_stays(colour: TrainRequest) -> None:
    hub = Hub.open(colour.hub)
    train_job(colour)
    hub.add(replace(hub.task("colour"), training={}), replace=True)
    before = content(colour)
    with pytest.raises(SnowError, match="has a task 'colour' already"):
        train_job(colour)
    assert content(colour) == before


def test_a_worker_knows_the_kind_of_the_labels(colour: TrainRequest) -> None:
    """And is not put off by the pictures that are held out for the thresholds of tags."""
    tags = replace(colour, kinds={"colour": "multi"})
    train_job(tags)
    before = content(colour)
    assert Hub.open(colour.hub).task("colour").labels.name == "multi"
    train_job(tags)
    assert content(colour) == before
