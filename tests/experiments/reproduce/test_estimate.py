"""How long something will take, from what a pass and a picture take here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.estimate import format_duration, training
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.source import Source


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 40 * (3 + 2)), ("cuda", 40 * 3)])
def test_a_gpu_leaves_the_cores_to_loading(
    device: str, seconds: float, resnet: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "step_seconds", lambda *_: 3.0)
    monkeypatch.setattr(estimate, "_loading_seconds", lambda *_: 2.0)
    monkeypatch.setattr(estimate, "open_fabric", lambda _: SimpleNamespace(device=SimpleNamespace(type=device)))
    pictures: Any = range(20)
    assert training(ReproductionSettings(Path(), lambda: resnet), Variant("snow"), pictures, epochs=2) == seconds


def test_a_method_is_as_much_slower_than_a_pass_as_in_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "pass_seconds", lambda *_: 1.0)
    steps = {name: estimate.step_seconds(Variant(name), "resnet50", 224, "32") for name in METHODS}
    assert steps["fo"] == 1
    assert steps["ft"] == pytest.approx(1085.67 / 358.74)
    assert steps["snow"] == pytest.approx(1085.67 / 965.31)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (7199, "2 h 0 min"), (45_000, "12 h 30 min")]
)
def test_times_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
