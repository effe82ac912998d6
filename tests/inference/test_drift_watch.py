"""A watch says when pictures are not what their task was trained on, and when they are again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from snow.inference.drift_watch import EVERY, WINDOW, DriftChange, DriftWatch
from snow.inference.reference import Reference, Space, Traits
from snow.inference.windows import MIXES, SIZES
from snow.kinds import NumberPrediction, Prediction

OWN = [(number + 0.5) / EVERY for number in range(EVERY)]
"""Familiarities of pictures like those of training."""


def seen(known: Sequence[float | None], traits: object = None) -> list[Prediction]:
    return [NumberPrediction("a", 0.0, known=value, traits=traits) for value in known]


def reference(width: int = 2) -> Reference:
    """One of pictures whose figures are 0 in the mean, and vary by 1."""
    limits, concentrations = torch.full((len(MIXES), len(SIZES)), 10.0), torch.linspace(0, 1, len(MIXES))
    space = Space(torch.zeros(1, width), torch.eye(width), limits)
    return Reference(torch.tensor([400]), concentrations, 0 * limits, space, space)


def test_a_change_and_its_end_are_told_once() -> None:
    watch = DriftWatch()
    assert watch.record("a", seen(OWN)) is None
    told = [watch.record("a", seen([0.01] * EVERY)) for _ in range(3)]
    [change] = [each for each in told if each is not None]
    assert change.task == "a"
    assert change.drift.has_changed
    assert change.describe().startswith("task a: its last 200 pictures differ from those of training: 52 % are unfam")
    told = [watch.record("a", seen(OWN)) for _ in range(WINDOW // EVERY)]
    [change] = [each for each in told if each is not None]
    assert not change.drift.has_changed
    assert change.describe() == "task a: its last 500 pictures are as in training again"


def test_one_by_one_is_as_in_batches() -> None:
    watch, batches = DriftWatch(), DriftWatch()
    told = [watch.record("a", [entry]) for entry in seen([0.01] * EVERY)]
    assert told[:-1] == [None] * (EVERY - 1)
    assert told[-1] == batches.record("a", seen([0.01] * EVERY))
    assert isinstance(told[-1], DriftChange)


def test_pictures_that_look_different_count_although_they_are_familiar() -> None:
    watch, own = DriftWatch(), reference()
    watch.record("a", seen(OWN, Traits(own, 0, torch.zeros(2), torch.zeros(2))))
    assert (watch.drift("a").content, watch.drift("a").appearance) == (0.0, 0.0)
    dark = Traits(own, 0, torch.zeros(2), torch.tensor([-2.0, 0.0]))
    [change] = [each for _ in range(WINDOW // EVERY) if (each := watch.record("a", seen(OWN, dark))) is not None]
    assert "content 0.00, appearance 0." in change.describe()
    drift = watch.drift("a")
    assert drift.content == 0
    assert drift.strength == drift.appearance == pytest.approx(0.67, abs=0.02)  # 2 Φ(1) - 1 and less, for chance


@pytest.mark.parametrize("newer", [reference(3), None])
def test_another_version_of_a_task_starts_anew(newer: Reference | None) -> None:
    """What an earlier version found unfamiliar says nothing about the new one, as after `snow extend`."""
    watch = DriftWatch()
    change = watch.record("a", seen([0.01] * EVERY, Traits(reference(), 0, torch.ones(2), torch.ones(2))))
    assert change is not None
    assert change.drift.has_changed
    traits = None if newer is None else Traits(newer, 0, torch.zeros(3), torch.zeros(3))
    assert watch.record("a", seen([0.01], traits) + seen(OWN[1:], traits)) == ("a", watch.drift("a"))
    assert watch.drift("a").images == EVERY
    assert not watch.drift("a").has_changed


def test_memory_does_not_grow_and_removed_tasks_are_forgotten() -> None:
    watch = DriftWatch()
    for _ in range(20):
        watch.record("a", seen(OWN))
    assert watch.drift("a").images == WINDOW
    watch.keep(["b"])
    assert watch.drift("a").images == 0


def test_tasks_that_do_not_tell_are_never_compared() -> None:
    watch = DriftWatch()
    assert watch.record("a", seen([None] * EVERY)) is None
    assert watch.record("a", []) is None
    assert watch.drift("a").images == 0
