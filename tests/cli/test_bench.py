"""`snow bench`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--source", "test_resnet", "--image-size", "64", "--batch-size", "6", "--rounds", "1", "--steps", "1")
pytestmark = pytest.mark.usefixtures("in_this_process")


def test_training_is_measured_on_a_folder(run: Callable[..., Any], colours: Path) -> None:
    rest = ("--methods", "fo,ft", "--device", "cpu", "--workers", "0", "--data", colours, "--json")
    result = run("bench", "training", *QUICK, *rest)
    assert result.code == 0
    assert {"images_per_second", "peak_memory_bytes", "over_ft", "memory_over_ft"} <= set(result.json["methods"]["fo"])
    assert {"command", "date", "versions", "hardware"} <= set(result.json)
    assert "round 1 of 1: limit: source …" in result.err


def test_training_is_shown_as_tables(run: Callable[..., Any], colours: Path) -> None:
    shown = run("bench", "training", *QUICK, "--methods", "ft", "--workers", "0", "--data", colours).out
    assert "ms per image" in shown
    assert "limit: decoding" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--methods", "magic"), "no method 'magic'"),
        (("--rounds", "0"), "at least one round"),
        (("--source", "resnet5000"), "resnet5000"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(refused: Callable[..., str], arguments: tuple[str, ...], told: str) -> None:
    assert told in refused("bench", "training", *arguments)


SERVED = ("--source", "test_resnet", "--image-size", "64", "--batch-size", "2", "--rounds", "1", "--sizes", "1")


def test_serving_is_measured(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.process.subprocesses.in_subprocess", lambda _, call: call())
    monkeypatch.setattr("snow.experiments.bench.requests.REQUESTS", 10)
    result = run("bench", "serving", *SERVED, "--tasks", "1,2", "--json")
    assert result.code == 0
    assert {"images_per_second", "of_source", "over_ft"} <= set(result.json["snow"]["2"])
    assert {"load_seconds", "add_seconds", "bytes_a_task"} <= set(result.json["hub"])
    monkeypatch.setattr(import_module("snow.cli.bench"), "measure_serving", lambda *_: result.json)
    shown = run("bench", "serving", *SERVED, "--tasks", "1").out
    assert "source alone" in shown
    assert "one more task takes" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--tasks", "many"), "numbers such as"), (("--engine", "warp"), "no engine"), (("--snow", "fo"), "not fo")],
)
def test_serving_that_cannot_be_measured_is_refused(
    refused: Callable[..., str], arguments: tuple[str, ...], told: str
) -> None:
    assert told in refused("bench", "serving", *SERVED, *arguments)
