"""A sweep on tiny pictures: one option at a time, on one pass, never on the test pictures, and never twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snow.data import Dataset, open_dataset
from snow.errors import SnowError
from snow.experiments.plots.sweep import draw_sweep
from snow.experiments.sweep import Option, Sweep, TrialConfig, run_sweep
from snow.experiments.sweep.table import columns, rows
from snow.methods import Method, SnowConfig
from snow.process.interrupt import Interrupted
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.fit import fit
from snow.training.history import Fitted, RunInfo, StepReport
from snow.training.listeners import Listener

RECIPE = Recipe(epochs=1, batch_size=6, augment="none", precision="32", lr=0.01)
AROUND = TrialConfig(SnowConfig(start="zero").resolved(2), RECIPE)


class Told(Listener):
    """Hears who learns together; stops the run after a step."""

    def __init__(self, stop: bool = False) -> None:
        self.runs: list[tuple[str, ...]] = []
        self.first_steps: list[int] = []
        self.stop = stop

    def __call__(self, stage: str) -> Sequence[Listener]:
        return (self,)

    def on_start(self, run: RunInfo) -> None:
        self.runs.append(run.learners)
        self.first_steps.append(run.first_step)

    def on_step(self, report: StepReport) -> None:
        if self.stop and report.step == 4:
            raise Interrupted("stopped here")


def options(*texts: str, base: TrialConfig = AROUND) -> tuple[Option, ...]:
    return tuple(Option.parse(text, base) for text in texts)


@pytest.fixture
def work(resnet: Source, write_folder: Callable[..., Path], tmp_path: Path) -> Sweep:
    dataset = open_dataset(write_folder(tmp_path / "pictures"), seed=0)
    return Sweep(
        resnet,
        dataset,
        AROUND,
        options("keep=1/4,1/8", "lr=1e-3,1e-2", "slots=index"),
        held_out=0.4,
        runtime=Runtime(workers=0),
    )


def test_one_option_at_a_time_and_the_default_once_on_one_pass(work: Sweep) -> None:
    told = Told()
    results = run_sweep(work, {"path": "pictures"}, listeners=told)
    assert told.runs == [("default", "keep=0.25", "lr=0.001", "pooling.slots=index")]
    assert [trial["setting"] for trial in results["trials"]] == [
        {},
        {"keep": 0.25},
        {"lr": 0.001},
        {"pooling.slots": "index"},
    ]
    assert [trial["variant"] for trial in results["trials"]][-1] == "snow:keep=0.125:final_keep=0.5:pooling.slots=index"
    assert [[entry["value"] for entry in entries] for entries in results["over"].values()] == [
        [0.25, 0.125],
        [0.001, 0.01],
        ["index", "channel"],
    ]
    default = results["trials"][0]
    for entries in results["over"].values():
        (centre,) = [entry for entry in entries if entry["is_centre"]]
        assert (centre["top1"], centre["runs"]) == (default["top1"], 1)
    more, fewer = results["over"]["keep"]
    assert more["learned_parameters"] > fewer["learned_parameters"]
    assert results["data"]["path"] == "pictures"
    assert {"command", "versions", "hardware", "source", "recipe", "options", "held_out", "seeds"} <= set(results)
    assert json.loads(json.dumps(results)) == results


def test_the_test_pictures_are_never_seen(work: Sweep) -> None:
    def unseen() -> Any:
        raise AssertionError("a test picture is opened")

    test = work.dataset.test
    blind = replace(work.dataset, test=type(test)([unseen] * len(test), test.labels))
    held = {trial["images"] for trial in run_sweep(replace(work, dataset=blind))["trials"]}
    assert held == {len(work.dataset.held_out(0.4, 0).test)} == {9}


def test_the_learning_rate_is_the_one_that_is_named(work: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[str, float] = {}

    def watched(source: Source, learners: dict[str, Method], dataset: Dataset, recipe: Recipe, **rest: Any) -> Fitted:
        rates.update({name: recipe.lr * method.lr_scale for name, method in learners.items()})
        return fit(source, learners, dataset, recipe, **rest)

    monkeypatch.setattr("snow.experiments.sweep.trials.fit", watched)
    run_sweep(replace(work, options=options("lr=1e-3,1e-2", "keep=1/4")))
    assert rates == pytest.approx({"default": 0.01, "lr=0.001": 0.001, "keep=0.25": 0.01})


def test_recipes_that_differ_do_not_share_a_pass_and_a_pass_is_not_overcrowded(work: Sweep) -> None:
    told = Told()
    run_sweep(replace(work, options=options("ema=0.5", "keep=1/4,1/2"), together=2), listeners=told)
    assert told.runs == [("default", "keep=0.25"), ("keep=0.5",), ("ema=0.5",)]


def test_only_what_is_missing_is_trained(work: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    small = replace(work, options=options("keep=1/4"))
    first = run_sweep(small, out=out)
    told = Told()
    assert run_sweep(small, out=out, listeners=told)["trials"] == first["trials"]
    assert told.runs == []
    grown = replace(work, options=options("keep=1/4,1/2", "width=1/4"), seeds=(0, 1))
    results = run_sweep(grown, out=out, listeners=told)
    assert told.runs == [("keep=0.5", "width=0.25"), ("default", "keep=0.25", "keep=0.5", "width=0.25")]
    assert results["trials"][:2] == first["trials"]
    assert [entry["runs"] for entry in results["over"]["keep"]] == [2, 2, 2]
    assert all("top1_std" in entry for entry in results["over"]["keep"])
    narrow = run_sweep(replace(work, options=options("keep=1/4")), out=out, listeners=lambda stage: pytest.fail(stage))
    assert [entry["runs"] for entry in narrow["over"]["keep"]] == [2, 2], "wider deltas are not the default"
    assert json.loads(out.read_text())["over"] == narrow["over"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "sweep.db", "sweep.json"]
    with pytest.raises(SnowError, match="recipe differ"):
        run_sweep(
            replace(small, base=TrialConfig(SnowConfig(start="zero").resolved(2), replace(RECIPE, epochs=2))), out=out
        )


def test_a_sweep_that_was_stopped_goes_on_within_its_run(work: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    longer = TrialConfig(SnowConfig(start="zero").resolved(2), replace(RECIPE, epochs=2))
    twice = replace(work, base=longer, options=options("keep=1/4", base=longer))
    with pytest.raises(Interrupted):
        run_sweep(twice, out=out, listeners=Told(stop=True))
    assert not out.exists()
    told = Told()
    results = run_sweep(twice, out=out, listeners=told)
    assert told.first_steps == [3], "the first epoch is not trained again"
    assert results["trials"] == run_sweep(twice)["trials"]
    assert list(tmp_path.glob(".*")) == []


def test_a_trial_that_diverges_is_told_and_the_others_are_measured(work: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    told = Told()
    steep = replace(work, options=options("lr=1e30", "keep=1/4"))
    results = run_sweep(steep, out=out, listeners=told)
    assert told.runs == [("default", "lr=1e+30", "keep=0.25"), ("default", "keep=0.25")]
    assert "lr=1e+30 is not finite" in results["trials"][1]["diverged"]
    assert [entry["runs"] for entry in results["over"]["lr"]] == [1, 0]
    assert any("diverged" in row for row in rows(results))
    run_sweep(steep, out=out, listeners=lambda stage: pytest.fail(f"{stage} is done again"))


def test_a_search_goes_on_from_what_is_known(work: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    searching = replace(work, options=options("keep=1/4", "lr=1e-3"), search=2)
    first = run_sweep(searching, out=out)
    assert [trial["searched"] for trial in first["trials"]] == [False, False, False, True, True]
    assert first["best"]["top1"] == max(trial["top1"] for trial in first["trials"])
    told = Told()
    more = run_sweep(replace(searching, search=3), out=out, listeners=told)
    assert more["trials"][:5] == first["trials"]
    assert [len(run) for run in told.runs] == [1]
    for trial in more["trials"][3:]:
        point = AROUND.with_values(trial["setting"])
        assert 0.125 <= point.config.keep <= 0.25
        assert 1e-3 <= point.recipe.lr <= 1e-2


def test_the_table_and_the_picture(work: Sweep, tmp_path: Path) -> None:
    results = run_sweep(replace(work, search=1))
    table = rows(results)
    assert {len(row) for row in table} == {len(columns(results))}
    assert [row[0] for row in table] == ["keep"] * 2 + ["lr"] * 2 + ["pooling.slots"] * 2 + ["search"]
    assert [row[1] for row in table if "default" in row[1]] == [
        "0.125 (default)",
        "0.01 (default)",
        "channel (default)",
    ]
    draw_sweep(results, tmp_path / "sweep.svg")
    drawn = (tmp_path / "sweep.svg").read_text()
    assert all(name in drawn for name in ("keep", "lr", "pooling.slots", "held-out"))
    entries = [{**entry, "mae": 12.5} for entry in results["over"]["lr"]]
    draw_sweep({**results, "kind": "number", "over": {"lr": entries}, "trials": []}, tmp_path / "number.svg")
    drawn = (tmp_path / "number.svg").read_text()
    assert "MAE on" in drawn
    assert "top-1" not in drawn
    with pytest.raises(SnowError, match="nothing to draw"):
        draw_sweep({**results, "over": {"lr": [{"value": 1, "is_centre": True, "runs": 0}]}}, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": ()}, "at least one option"),
        ({"options": options("keep=1/4", "keep=1/2")}, "each of them once, not keep, keep"),
        ({"seeds": ()}, "at least one seed"),
        ({"together": 0}, "at least one"),
        ({"search": -1}, "search of at least 0"),
    ],
)
def test_no_sweep(work: Sweep, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SnowError, match=told):
        replace(work, **changes)


def test_results_are_not_the_trials(work: Sweep, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"name a results file, such as .*sweep.json"):
        run_sweep(work, out=tmp_path / "sweep.db")
    (tmp_path / "compared.json").write_text('{"methods": {}}')
    with pytest.raises(SnowError, match=r"compared.json holds other results"):
        run_sweep(work, out=tmp_path / "compared.json")
    assert [path.name for path in tmp_path.glob("*.*")] == ["compared.json"]
