"""The service says when what it sees is not what its tasks were trained on."""

from __future__ import annotations

import logging

import pytest

from snow.serving.drift import EVERY, WINDOW, DriftWatch
from snow.serving.metrics import Metrics

OWN = [(number + 0.5) / EVERY for number in range(EVERY)]
"""Familiarities of pictures like those of training."""


def test_the_log_says_once_that_pictures_have_changed(caplog: pytest.LogCaptureFixture) -> None:
    watch = DriftWatch()
    with caplog.at_level(logging.WARNING, "snow.serving"):
        watch.record("a", OWN)
        assert not caplog.records
        for _ in range(3):
            watch.record("a", [0.01] * EVERY)
        assert len(caplog.records) == 1
        assert "differ from those of training" in caplog.records[0].getMessage()
        for _ in range(WINDOW // EVERY):
            watch.record("a", OWN)
        assert len(caplog.records) == 2
        assert "as in training again" in caplog.records[1].getMessage()


def test_memory_does_not_grow_and_removed_tasks_are_forgotten() -> None:
    watch = DriftWatch()
    for _ in range(20):
        watch.record("a", OWN)
    assert watch.drift("a").images == WINDOW
    watch.keep(["b"])
    assert watch.drift("a").images == 0


def test_a_gauge_for_each_task() -> None:
    metrics = Metrics()
    metrics.set_tasks(["a"], [])
    metrics.record_known("a", [0.01] * 10)
    metrics.record_known("unknown", [0.01])
    text = metrics.text().decode()
    assert 'snow_task_drift{task="a"} 0.99' in text
    assert "unknown" not in text
    metrics.set_tasks([], [])
    assert 'snow_task_drift{task="a"}' not in metrics.text().decode()
