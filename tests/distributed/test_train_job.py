"""One task on a worker of its own, also where the worker before was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snow.distributed.train_job import TrainJob, train_job
from snow.errors import SnowError
from snow.hub import Hub
from snow.source import Source
from snow.training import Recipe


@pytest.fixture
def given(write_folder: Callable[..., Path], tmp_path: Path) -> TrainJob:
    hub = Hub.create(tmp_path / "hub", Source.open("test_resnet", pretrained=False, image_size=64))
    recipe = Recipe(epochs=1, batch_size=6, workers=0, augment="none", precision="32")
    pictures = write_folder(tmp_path / "pictures")
    return TrainJob(hub.path, str(pictures), "colour", None, 0.2, recipe, "fo", {}, (), replace=False, cache=None)


def content(given: TrainJob) -> tuple[bytes, Any]:
    model = given.hub / "tasks" / "colour" / "model.safetensors"
    return model.read_bytes(), model.stat().st_mtime_ns


def test_what_a_lost_worker_has_added_is_not_learned_again(given: TrainJob) -> None:
    train_job(given)
    before = content(given)
    train_job(given)
    assert content(given) == before
    train_job(replace(given, replace=True))
    assert content(given) != before
    assert content(given)[0] == before[0]


def test_a_task_that_someone_else_has_added_stays(given: TrainJob) -> None:
    train_job(given)
    before = content(given)
    with pytest.raises(SnowError, match="has a task 'colour' already"):
        train_job(replace(given, recipe=replace(given.recipe, seed=1)))
    assert content(given) == before


def test_a_task_that_was_not_learned_here_stays(given: TrainJob) -> None:
    hub = Hub.open(given.hub)
    train_job(given)
    hub.add(replace(hub.task("colour"), training={}), replace=True)
    before = content(given)
    with pytest.raises(SnowError, match="has a task 'colour' already"):
        train_job(given)
    assert content(given) == before
