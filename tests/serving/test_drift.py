"""The service says when what it sees is not what its tasks were trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch

from snow.inference.reference import Reference, Space, Traits
from snow.inference.windows import MIXES, SIZES
from snow.kinds import NumberPrediction, Prediction
from snow.serving.drift import EVERY, WINDOW, DriftWatch
from snow.serving.metrics import Metrics

OWN = [(number + 0.5) / EVERY for number in range(EVERY)]
"""Familiarities of pictures like those of training."""


def seen(known: Sequence[float], traits: object = None) -> list[Prediction]:
    return [NumberPrediction("a", 0.0, known=value, traits=traits) for value in known]


def reference(width: int = 2) -> Reference:
    """One of pictures whose figures are 0 in the mean, and vary by 1."""
    limits, concentrations = torch.full((len(MIXES), len(SIZES)), 10.0), torch.linspace(0, 1, len(MIXES))
    space = Space(torch.zeros(1, width), torch.eye(width), limits)
    return Reference(torch.tensor([400]), concentrations, 0 * limits, space, space)


def test_the_log_says_once_that_pictures_have_changed(caplog: pytest.LogCaptureFixture) -> None:
    watch = DriftWatch()
    with caplog.at_level(logging.WARNING, "snow.serving"):
        watch.record("a", seen(OWN))
        assert not caplog.records
        for _ in range(3):
            watch.record("a", seen([0.01] * EVERY))
        assert len(caplog.records) == 1
        assert "differ from those of training" in caplog.records[0].getMessage()
        for _ in range(WINDOW // EVERY):
            watch.record("a", seen(OWN))
        assert len(caplog.records) == 2
        assert "as in training again" in caplog.records[1].getMessage()


def test_pictures_that_look_different_count_although_they_are_familiar(caplog: pytest.LogCaptureFixture) -> None:
    watch, own = DriftWatch(), reference()
    watch.record("a", seen(OWN, Traits(own, 0, torch.zeros(2), torch.zeros(2))))
    assert (watch.drift("a").content, watch.drift("a").appearance) == (0.0, 0.0)
    with caplog.at_level(logging.WARNING, "snow.serving"):
        for _ in range(WINDOW // EVERY):
            watch.record("a", seen(OWN, Traits(own, 0, torch.zeros(2), torch.tensor([-2.0, 0.0]))))
    assert "content 0.00, appearance 0." in caplog.records[0].getMessage()
    drift = watch.drift("a")
    assert drift.content == 0
    assert drift.strength == drift.appearance == pytest.approx(0.67, abs=0.02)  # 2 Φ(1) - 1 and less, for chance


def test_another_version_of_a_task_starts_anew() -> None:
    watch = DriftWatch()
    watch.record("a", seen(OWN, Traits(reference(), 0, torch.ones(2), torch.ones(2))))
    assert watch.drift("a").has_changed
    watch.record("a", seen(OWN, Traits(reference(3), 0, torch.zeros(3), torch.zeros(3))))
    assert not watch.drift("a").has_changed


def test_memory_does_not_grow_and_removed_tasks_are_forgotten() -> None:
    watch = DriftWatch()
    for _ in range(20):
        watch.record("a", seen(OWN))
    assert watch.drift("a").images == WINDOW
    watch.keep(["b"])
    assert watch.drift("a").images == 0


def test_a_gauge_for_each_task() -> None:
    metrics = Metrics()
    metrics.set_tasks(["a"], [])
    metrics.record_predictions("a", seen([0.01] * 10))
    metrics.record_predictions("unknown", seen([0.01]))
    text = metrics.text().decode()
    assert 'snow_task_drift{task="a"} 0.99' in text
    assert "unknown" not in text
    metrics.record_predictions("a", [NumberPrediction("a", 0.0)])  # a task that does not tell
    metrics.set_tasks([], [])
    assert 'snow_task_drift{task="a"}' not in metrics.text().decode()
