"""The choice over time: recorded at set moments, through stops and in several processes, and at no cost to learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import Stop
from tiny import Noisy, built, same_tensors, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.methods import METHODS
from snow.process.interrupt import Interrupted
from snow.source import FINAL
from snow.subscribe import SelectionHistory
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.selection_recorder import RECORDS, SelectionRecorder, recording_steps

LOUD = {"start": "zero", "pooling": {"spread": 0.01, "sigma2": 0.1, "settle": 0.0}}
"""So little between the channels, and so much noise, that the choice goes on changing."""


def snow(seed: int = 0) -> Any:
    return built(METHODS["snow"], seed=seed, **LOUD)


def run(learners: dict[str, Any], **options: Any) -> Fitted:
    changes = options.pop("changes", {})
    recipe = tiny_recipe(**{"lr": 0.1, **changes})
    return fit(tiny_source(), learners, tiny_dataset(), recipe, runtime=tiny_runtime(), **options)


def same(first: SelectionHistory, second: SelectionHistory) -> bool:
    return (
        torch.equal(first.steps, second.steps)
        and first.batches == second.batches
        and first.masks.keys() == second.masks.keys()
        and all(torch.equal(mask, second.masks[tap]) for tap, mask in first.masks.items())
    )


@pytest.mark.parametrize(("epochs", "batches"), [(1, 1), (3, 7), (30, 25), (1, 1000), (7, 900), (500, 10), (199, 3)])
def test_moments_are_even_few_and_at_every_end(epochs: int, batches: int) -> None:
    chosen = sorted(recording_steps(epochs, batches))
    assert chosen[-1] == batches
    assert chosen[0] >= 1
    assert len(chosen) * epochs <= max(RECORDS, epochs)
    gaps = [after - before for before, after in zip([0, *chosen], chosen, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_what_is_recorded() -> None:
    method = snow()
    fitted = run({"colour": method, "noisy": built()})
    assert list(fitted.selection_history) == ["colour"]
    choices = fitted.selection_history["colour"]
    assert choices.batches == 3
    assert choices.steps.tolist() == list(range(10))
    assert {tap: mask.shape for tap, mask in choices.masks.items()} == {
        "block2": (10, 16),
        FINAL: (10, 16),
    }
    for tap, mask in method.export_form().selected_mask().items():
        assert torch.equal(choices.masks[tap][-1], mask)
    assert sum(choices.summary("block2")["newcomers"]) > 0


def test_the_first_moment_is_before_the_first_step_and_after_calibration() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    method = snow()
    calibrate = method.calibrate

    def calibrated(batches: Any) -> None:
        calibrate(batches)
        seen.append(method.selected_mask())

    method.calibrate = calibrated
    choices = run({"colour": method}).selection_history["colour"]
    assert all(torch.equal(choices.masks[tap][0], mask) for tap, mask in seen[0].items())


def test_recording_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, exclusive = snow(), snow()
    assert run({"colour": watched}).selection_history
    monkeypatch.setattr(SelectionRecorder, "record", lambda self, step: None)
    assert run({"colour": exclusive}).selection_history == {}
    assert same_tensors(watched, exclusive)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stop_leaves_no_gap(tmp_path: Path, step: int) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = run({"colour": snow()}).selection_history["colour"]
    with pytest.raises(Interrupted):
        run({"colour": snow()}, checkpoint=path, listeners=[Stop(step)])
    resumed = run({"colour": snow(seed=9)}, checkpoint=path, resume=True).selection_history["colour"]
    assert same(resumed, whole)
    assert same(run({"colour": snow(seed=9)}, checkpoint=path, resume=True).selection_history["colour"], whole)


def test_who_stops_early_is_not_looked_at_any_more() -> None:
    choices = run({"colour": snow()}, changes={"lr": 1e-9, "validation": 0.25, "patience": 1, "epochs": 5})
    taken = choices.selection_history["colour"]
    assert taken.steps[-1] == len({record.epoch for record in choices.history}) * taken.batches < 5 * taken.batches


def test_a_method_without_a_choice_has_no_record() -> None:
    recorder = SelectionRecorder(Noisy(3))
    recorder.record(0)
    assert recorder.history(1) is None
    other = SelectionRecorder(Noisy(3))
    other.load_state_dict(recorder.state_dict())
    assert other.history(1) is None
