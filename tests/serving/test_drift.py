"""The service says when what it sees is not what its tasks were trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from snow.inference.drift_watch import EVERY, WINDOW
from snow.kinds import NumberPrediction, Prediction
from snow.serving.metrics import Metrics

OWN = [(number + 0.5) / EVERY for number in range(EVERY)]
"""Familiarities of pictures like those of training."""


def seen(known: Sequence[float]) -> list[Prediction]:
    return [NumberPrediction("a", 0.0, known=value) for value in known]


def test_the_log_says_once_that_pictures_have_changed(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.set_tasks(["a"], [])
    with caplog.at_level(logging.WARNING, "snow.serving"):
        metrics.record_predictions("a", seen(OWN))
        assert not caplog.records
        for _ in range(3):
            metrics.record_predictions("a", seen([0.01] * EVERY))
        assert len(caplog.records) == 1
        assert "differ from those of training" in caplog.records[0].getMessage()
        for _ in range(WINDOW // EVERY):
            metrics.record_predictions("a", seen(OWN))
        assert len(caplog.records) == 2
        assert "as in training again" in caplog.records[1].getMessage()


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
