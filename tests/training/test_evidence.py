"""A run that starts by evidence: it ends where it began or above, and resumes, whatever the rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import built, same_tensors, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.data import Dataset, Task
from snow.hub import Hub
from snow.kinds import GradeKind, NumberKind, Prediction, TagKind
from snow.methods import FinalOutput, Method, Snow
from snow.methods.tail import Tail
from snow.training.evaluate import evaluate
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.listeners import Listener
from snow.training.train import train


@pytest.fixture(autouse=True)
def _few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.training.calibration.MAX_AUGMENTED_VIEWS", 1)


def run(count: int = 240, learners: Mapping[str, Method] | None = None, tasks: int = 1, **changes: Any) -> Fitted:
    options = {name: changes.pop(name) for name in ("checkpoint", "resume", "listeners") if name in changes}
    runtime = tiny_runtime(**{name: changes.pop(name) for name in ("cache", "cache_dir") if name in changes})
    learners = learners or {"snow": built(Snow)}
    dataset = tiny_dataset(count, 60, tasks)
    return fit(tiny_source(), learners, dataset, tiny_recipe(**changes), runtime=runtime, **options)


@cache
def standing_still() -> Fitted:
    return run(lr=1e-9, epochs=1)


@pytest.mark.parametrize("lr", [1e-4, pytest.param(1e-2, marks=pytest.mark.slow), 1.0])
def test_no_rate_ends_below_the_start(lr: float) -> None:
    fitted = run(lr=lr, epochs=2)
    training = fitted.evidence["snow"]["training"]
    assert training["held_out"] == 48
    assert len(training["epochs"]) == 2
    start = standing_still()
    assert fitted.metrics["snow"].top1 >= start.metrics["snow"].top1 - 0.05
    if training["kept"] != "start":
        kept = training["epochs"][int(training["kept"].removeprefix("epoch ")) - 1]
        assert kept["loss"] < training["start"]["loss"]


@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_answers_for_held_out_pictures_come_with_their_numbers(validation: float) -> None:
    fitted = run(lr=1e-9, epochs=1, validation=validation)
    held = fitted.held_out["snow"]
    assert len(held.index.unique()) == fitted.evidence["snow"]["training"]["held_out"] == len(held.logits)
    assert torch.equal(tiny_dataset(240, 60, 1).train.labels[held.index, 0], held.label)
    accuracy = float((held.logits.argmax(1) == held.label).float().mean())
    assert accuracy == pytest.approx(fitted.evidence["snow"]["training"]["start"]["accuracy"], abs=1e-4)


def test_a_task_keeps_how_sure_it_is_of_held_out_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.inference.confidence.WEIGHTS", (0.5,))
    dataset = tiny_dataset(240, 60, 1)
    [trained] = train(
        Hub.create(tmp_path / "hub", tiny_source()), dataset, tiny_recipe(epochs=1), runtime=tiny_runtime()
    )
    hub = Hub(tmp_path / "hub", tiny_source(), engine="eager")
    familiarity = hub.task(trained.name).familiarity
    assert familiarity is not None
    assert familiarity.confidence is not None
    assert trained.familiarity is not None
    assert trained.familiarity.confidence is not None
    assert torch.equal(familiarity.confidence.joint, trained.familiarity.confidence.joint)
    images = torch.stack([dataset.test[number][0] for number in range(8)])
    answers = [row[trained.name] for row in hub.predict(images)]
    assert all(isinstance(answer, Prediction) for answer in answers)
    with torch.no_grad():
        familiar = familiarity.known(hub.source(images, frozenset()).final)
        logits = hub.logits(images, [trained.name])[trained.name]
    expected = familiarity.confidence.known(familiar, logits)
    torch.testing.assert_close(torch.tensor([answer.known for answer in answers]), expected)  # ty: ignore
    assert not torch.allclose(familiar, expected, atol=0.05)


def test_of_few_pictures_the_start_is_kept_without_a_step() -> None:
    fitted = run(24)
    assert fitted.history == ()
    assert fitted.evidence["snow"]["training"] == {"held_out": 0, "kept": "start"}
    assert fitted.metrics["snow"].top1 > 0.5


def test_a_tail_has_the_share_that_held_out_pictures_say(tmp_path: Path) -> None:
    fitted = run(440, {"tail": built(Tail)}, epochs=2, lr=0.02)
    training = fitted.evidence["tail"]["training"]
    assert training["held_out"] == 84
    assert "share" not in training["start"] or training["start"]["share"] == 0
    assert all(0 <= epoch["share"] <= 1 and epoch["loss"] <= training["start"]["loss"] for epoch in training["epochs"])
    tail = fitted.learners["tail"]
    assert isinstance(tail, Tail)
    assert (tail.copy is None) == (training["kept"] == "start")
    dataset, recipe = tiny_dataset(440, 60, 1), tiny_recipe(epochs=2, lr=0.02)
    [trained] = train(
        Hub.create(tmp_path / "hub", tiny_source()), dataset, recipe, method="tail", runtime=tiny_runtime()
    )
    images = torch.stack([dataset.test[number][0] for number in range(8)])
    eager, auto = (
        Hub(tmp_path / "hub", tiny_source(), engine=engine).logits(images, [trained.name])[trained.name]
        for engine in ("eager", "auto")
    )
    torch.testing.assert_close(auto, eager, rtol=1e-3, atol=1e-3)
    assert eager.std() > 0


def test_a_tail_learns_from_a_cache(tmp_path: Path) -> None:
    fitted = run(440, {"tail": built(Tail)}, epochs=2, lr=0.02, cache="100MB", cache_dir=tmp_path)
    assert len(fitted.evidence["tail"]["training"]["epochs"]) == 2
    assert fitted.metrics["tail"].top1 >= standing_still().metrics["snow"].top1 - 0.05


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


@pytest.mark.parametrize(
    ("method", "cache"), [pytest.param(Snow, None, marks=pytest.mark.slow), (Snow, "100MB"), (Tail, "100MB")]
)
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path: Path, method: type[Method], cache: str | None) -> None:
    class Stop(Listener):
        def on_epoch(self, records: Any) -> None:
            if records[0].epoch == 2:
                raise KeyboardInterrupt

    def learned(**options: Any) -> Fitted:
        return run(440, {"task": built(method)}, cache=cache, epochs=3, **options)

    whole = learned()
    with pytest.raises(KeyboardInterrupt):
        learned(checkpoint=tmp_path / "checkpoint", listeners=[Stop()])
    resumed = learned(checkpoint=tmp_path / "checkpoint", resume=True)
    assert same_tensors(whole.learners["task"], resumed.learners["task"])
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


def with_numbers(count: int = 240) -> Dataset:
    """The second task has numbers: 1, 2 and 3 for the three colours, every fourth one missing."""
    dataset, labels = tiny_dataset(count, 60, 2), ("1.0", "2.0", "3.0")
    return replace(
        dataset, tasks=(dataset.tasks[0], Task("size", (), NumberKind.of_labels("size", labels, ""), labels))
    )


def both() -> dict[str, Snow]:
    return {"colour": built(Snow), "size": built(Snow, num_classes=1)}


def test_numbers_start_by_evidence_beside_classes(tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", tiny_source())
    dataset = with_numbers(320)
    colour, size = train(hub, dataset, tiny_recipe(epochs=2), runtime=tiny_runtime())
    assert colour.metrics["evidence"]["training"]["held_out"] == 63
    evidence = size.metrics["evidence"]
    assert evidence["pictures"] == 240
    assert evidence["chosen"]["r2"] > 0.7
    training = evidence["training"]
    assert training["held_out"] == 48
    assert len(training["epochs"]) == len(size.metrics["history"]) == 2
    assert training["start"].keys() == {"loss", "r2", "share"}
    assert size.metrics["test"]["r2"] > 0.7
    assert size.familiarity is not None
    assert size.familiarity.confidence is None
    opened = Hub(tmp_path / "hub", tiny_source())
    assert opened.task("size").metrics == size.metrics
    images = torch.stack([dataset.test[number][0] for number in range(6)])
    answers = [row["size"].value for row in opened.predict(images)]
    assert (torch.tensor(answers) - torch.tensor([1.0, 2.0, 3.0] * 2)).abs().mean() < 0.5


def test_tags_start_by_evidence_and_have_thresholds(tmp_path: Path) -> None:
    dataset = tiny_dataset(300, 60)
    labels = ('["r"]', '["g", "lush"]', '{"b": 1, "r": 0}')
    kind = TagKind.of_labels("marks", labels, "")
    dataset = replace(dataset, tasks=(Task("marks", kind.names, kind, labels),))
    hub = Hub.create(tmp_path / "hub", tiny_source())
    [marks] = train(hub, dataset, tiny_recipe(epochs=2), runtime=tiny_runtime())
    evidence = marks.metrics["evidence"]
    assert evidence["pictures"] == 270, "a tenth is held out for thresholds"
    assert evidence["chosen"]["accuracy"] > 0.9
    assert evidence["training"]["held_out"] == 54
    assert marks.metrics["test"]["map"] > 0.9
    assert isinstance(marks.labels, TagKind)
    assert marks.labels.thresholds != (0.5,) * 4
    opened = Hub(tmp_path / "hub", tiny_source())
    images = torch.stack([dataset.test[number][0] for number in range(12)])
    answers: list[Any] = [row["marks"] for row in opened.predict(images)]
    expected = [{"r"}, {"g", "lush"}, {"b"}] * 4
    assert sum(set(answer.tags) >= tags for answer, tags in zip(answers, expected, strict=True)) >= 10


def test_grades_start_by_evidence() -> None:
    dataset, labels = tiny_dataset(240, 60), ("fair", "bad", "good")
    kind = GradeKind.of_labels("colour", labels, "")
    dataset = replace(dataset, tasks=(Task("colour", kind.names, kind, labels),))
    learners = {"colour": built(Snow, num_classes=2)}
    fitted = fit(tiny_source(), learners, dataset, tiny_recipe(epochs=1, lr=1e-9), runtime=tiny_runtime())
    assert fitted.evidence["colour"]["training"]["held_out"] == 48
    assert fitted.evidence["colour"]["training"]["kept"] == "start"
    assert fitted.metrics["colour"].to_dict()["mae_grades"] < 0.2


@pytest.mark.parametrize("lr", [1e-9, 1.0])
def test_no_rate_leaves_a_number_below_its_start(lr: float) -> None:
    fitted = fit(tiny_source(), both(), with_numbers(320), tiny_recipe(lr=lr, epochs=1), runtime=tiny_runtime())
    assert len(fitted.evidence["size"]["training"]["epochs"]) == 1
    assert fitted.evidence["size"]["training"]["kept"] == "start"
    assert fitted.learners["size"].delta is None
    assert fitted.metrics["size"].score > 0.7


def test_a_number_that_is_always_the_same_learns_all_the_same() -> None:
    dataset = with_numbers()
    dataset.train.labels[:, 1] = 1  # of three numbers that the task knows
    fitted = fit(tiny_source(), both(), dataset, tiny_recipe(epochs=1), runtime=tiny_runtime())
    assert "size" not in fitted.evidence
    assert len([record for record in fitted.history if record.learner == "size"]) == 1


def test_a_stopped_run_of_both_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class Stop(Listener):
        def on_epoch(self, records: Any) -> None:
            if records[0].epoch == 1:
                raise KeyboardInterrupt

    def fitted(**options: Any) -> dict[str, Method]:
        return fit(
            tiny_source(), both(), with_numbers(), tiny_recipe(epochs=2), runtime=tiny_runtime(), **options
        ).learners

    uninterrupted = fitted()
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=tmp_path / "checkpoint", listeners=[Stop()])
    resumed = fitted(checkpoint=tmp_path / "checkpoint", resume=True)
    assert all(same_tensors(method, resumed[name]) for name, method in uninterrupted.items())


@pytest.mark.slow
def test_two_processes_hand_back_the_start_of_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe, runtime = tiny_recipe(epochs=1, freeze_selection=True), tiny_runtime(devices=2)
    fitted = fit(tiny_source(), both(), with_numbers(), recipe, runtime=runtime)
    assert fitted.learners["size"].readout is not None
    assert fitted.evidence["size"]["chosen"]["r2"] > 0.7
    assert fitted.metrics["size"].images == 45


def test_with_weights_of_classes_training_goes_on_from_the_start() -> None:
    weighted, plain = run(24, epochs=2, class_weights="r=9"), run(24, epochs=2)
    assert len(weighted.history) == 2
    assert "chosen" in weighted.evidence["snow"]
    assert "training" not in weighted.evidence["snow"]
    assert not torch.equal(weighted.learners["snow"].readout.bias, plain.learners["snow"].readout.bias)
