"""A run that starts by evidence: it ends where it began or above, and resumes, whatever the rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import built, same_tensors, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.hub import Hub
from snow.methods import FinalOutput, Method, Snow
from snow.training.evaluate import evaluate
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.listeners import Listener
from snow.training.train import train


def run(count: int = 240, learners: Mapping[str, Method] | None = None, tasks: int = 1, **changes: Any) -> Fitted:
    options = {name: changes.pop(name) for name in ("checkpoint", "resume", "listeners") if name in changes}
    runtime = tiny_runtime(**{name: changes.pop(name) for name in ("cache", "cache_dir") if name in changes})
    learners = learners or {"snow": built(Snow)}
    dataset = tiny_dataset(count, 60, tasks)
    return fit(tiny_source(), learners, dataset, tiny_recipe(**changes), runtime=runtime, **options)


@pytest.mark.parametrize("lr", [1e-4, 1e-2, 1.0])
def test_no_rate_ends_below_the_start(lr: float) -> None:
    fitted = run(lr=lr, epochs=2)
    training = fitted.evidence["snow"]["training"]
    assert training["held_out"] == 48
    assert len(training["epochs"]) == 2
    start = run(lr=1e-9, epochs=1)
    assert fitted.metrics["snow"].top1 >= start.metrics["snow"].top1 - 0.05
    if training["kept"] != "start":
        kept = training["epochs"][int(training["kept"].removeprefix("epoch ")) - 1]
        assert kept["loss"] < training["start"]["loss"]


def test_of_few_pictures_the_start_is_kept_without_a_step() -> None:
    fitted = run(24)
    assert fitted.history == ()
    assert fitted.evidence["snow"]["training"] == {"held_out": 0, "kept": "start"}
    assert fitted.metrics["snow"].top1 > 0.5


def test_equal_learners_are_calibrated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    calibrate_views = Snow.calibrate_views
    monkeypatch.setattr(Snow, "calibrate_views", lambda *given: (calls.append(given), calibrate_views(*given)))
    fitted = run(learners={"a": built(Snow), "b": built(Snow), "c": built(Snow, seed=1)}, epochs=1)
    assert len(calls) == 2
    alone = run(epochs=1)
    assert fitted.evidence["a"]["chosen"] == fitted.evidence["b"]["chosen"] == alone.evidence["snow"]["chosen"]
    assert torch.equal(fitted.learners["b"].readout.index, alone.learners["snow"].readout.index)


def test_another_learner_of_the_run_learns_all_pictures() -> None:
    beside = {"snow": built(Snow), "fo": built(FinalOutput)}
    fitted = run(learners=beside)
    alone = run(learners={"fo": built(FinalOutput)})
    assert same_tensors(fitted.learners["fo"], alone.learners["fo"])
    [record] = [record for record in fitted.history if record.learner == "fo" and record.epoch == 1]
    assert record.accuracy == alone.history[0].accuracy
    assert "fo" not in fitted.evidence


@pytest.mark.parametrize("cache", [None, "100MB"])
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path: Path, cache: str | None) -> None:
    class Stop(Listener):
        def on_epoch(self, records: Any) -> None:
            if records[0].epoch == 2:
                raise KeyboardInterrupt

    options = {"cache": cache, "epochs": 3}
    whole = run(**options)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "checkpoint", listeners=[Stop()], **options)
    resumed = run(checkpoint=tmp_path / "checkpoint", resume=True, **options)
    assert same_tensors(whole.learners["snow"], resumed.learners["snow"])
    assert whole.evidence == resumed.evidence
    assert [record.loss for record in whole.history] == [record.loss for record in resumed.history]


def test_two_tasks_have_pictures_of_their_own_that_judge_them() -> None:
    fitted = run(400, {"colour": built(Snow), "shade": built(Snow)}, tasks=2, epochs=1)
    held = [fitted.evidence[name]["training"]["held_out"] for name in ("colour", "shade")]
    assert held[0] > held[1] > 40


def test_what_was_chosen_stands_with_the_task(tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", tiny_source())
    [artifact] = train(hub, tiny_dataset(240, 60), tiny_recipe(epochs=1), runtime=tiny_runtime())
    assert artifact.metrics["evidence"]["chosen"]["inputs"]
    opened = Hub(tmp_path / "hub", tiny_source())
    again = opened.task("colour")
    assert again.metrics["evidence"] == artifact.metrics["evidence"]
    measured = evaluate(tiny_source(), {"colour": again.method}, tiny_dataset(24, 60).test, runtime=tiny_runtime())
    assert measured["colour"].top1 == artifact.metrics["test"]["top1"]


def test_without_calibration_a_linear_probe_and_the_delta_learn() -> None:
    fitted = run(calibration=0, epochs=2)
    assert fitted.evidence == {}
    assert len(fitted.history) == 2
    assert fitted.learners["snow"].readout.weight.abs().max() > 0
