"""The automatic engine: what is measured once, where it is kept, and what it then runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snow.inference import AutoEngine, EagerEngine, Predictor, auto
from snow.methods import METHODS, Method
from snow.source import Source


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(5, seed=4)[0]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNOW_CACHE", str(tmp_path))
    return tmp_path


def tasks(source: Source, count: int) -> dict[str, Method | None]:
    return {str(number): METHODS["snow"].build(source, 3, {"start": "zero"}).export_form() for number in range(count)}


def test_a_measurement_is_made_once_and_can_be_made_again(
    resnet: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, measured_engines: Callable[[AutoEngine], Any]
) -> None:
    monkeypatch.setattr(AutoEngine, "_measured", measured_engines)
    choices = AutoEngine(resnet).measure()
    assert choices.keys() == {f"{tasks}x{pictures}" for tasks in auto.TASKS for pictures in auto.PICTURES}
    assert set(choices.values()) <= auto.RUNNERS.keys()
    [times] = json.loads((cache / auto.FILE).read_text()).values()
    assert all(min(seconds, key=seconds.get) == choices[numbers] for numbers, seconds in times.items())
    with monkeypatch.context() as patched:
        patched.setattr(AutoEngine, "_measured", lambda _self: pytest.fail("it is measured again"))
        assert AutoEngine(resnet).measure() == choices
        with pytest.raises(pytest.fail.Exception):
            AutoEngine(resnet).measure(again=True)
        patched.setattr(torch, "__version__", "another")
        with pytest.raises(pytest.fail.Exception):
            AutoEngine(resnet).measure()


@pytest.mark.parametrize("name", auto.RUNNERS)
def test_it_runs_what_was_fastest(name: str, resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [f"{tasks}x{pictures}" for tasks in auto.TASKS for pictures in auto.PICTURES]
    times = {key: {other: float(other != name) for other in auto.RUNNERS} for key in numbers}
    monkeypatch.setattr(AutoEngine, "_measured", lambda _self: times)
    monkeypatch.setattr(auto, "WARM_UP", 0)
    engine, asked = AutoEngine(resnet), tasks(resnet, 7)
    found = Predictor(engine).logits(images, asked)
    assert list(engine._runners) == [name]
    expected = Predictor(EagerEngine(resnet)).logits(images, asked)
    for task, value in expected.items():
        torch.testing.assert_close(found[task], value, rtol=1e-4, atol=1e-5)


def test_before_a_measurement_other_tasks_change_no_bit(resnet: Source, images: Tensor) -> None:
    predictor, asked = Predictor(AutoEngine(resnet)), tasks(resnet, 8)
    alone = predictor.logits(images, {"3": asked["3"]})
    assert torch.equal(predictor.logits(images, asked)["3"], alone["3"])


def test_few_answers_are_not_worth_a_measurement(resnet: Source, images: Tensor, cache: Path) -> None:
    engine = AutoEngine(resnet)
    Predictor(engine).logits(images[:2], tasks(resnet, 2))
    assert not (cache / auto.FILE).exists()


def test_a_damaged_file_is_measured_anew(resnet: Source, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"1x1": {"stacked": 1.0, "folded": 2.0}}
    monkeypatch.setattr(AutoEngine, "_measured", lambda _self: times)
    (cache / auto.FILE).write_text("{")
    assert AutoEngine(resnet).measure() == {"1x1": "stacked"}
    assert list(json.loads((cache / auto.FILE).read_text()).values()) == [times]
