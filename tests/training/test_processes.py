"""Two processes on a CPU, started by `fit` itself and by torchrun."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes
from tiny import Blind, built, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.errors import SnowError
from snow.training import launch
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.loader import EpochSampler

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@dataclass
class Runs:
    """Folders in which each process of the two runs has left its weights, and what `fit` returned to this process."""

    spawn: Path
    torchrun: Path
    fitted: Fitted
    learners: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both at the same time."""
    folders = [tmp_path_factory.mktemp(name) for name in ("spawn", "torchrun")]
    script = [*TORCHRUN, str(Path(__file__).with_name("two_processes.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", two_processes.FOLDER: str(folders[1])}
    with (
        subprocess.Popen(script, env=environment, stderr=subprocess.PIPE, text=True) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            patch.setenv(two_processes.FOLDER, str(folders[0]))
            patch.setenv("OMP_NUM_THREADS", "1")
            fitted, learners = two_processes.train()
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 0, errors
    return Runs(*folders, fitted, learners)


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["spawn", "torchrun"])
def test_both_processes_end_with_the_same_weights(runs: Runs, kind: str) -> None:
    states = [_load(getattr(runs, kind) / f"rank-{rank}.pt") for rank in range(2)]
    assert _same(*states)
    assert int(states[0]["seen"]) == 6, "two epochs of three steps"
    assert not torch.equal(states[0]["classifier.weight"], built().classifier.weight)


@pytest.mark.parametrize("kind", ["spawn", "torchrun"])
def test_every_picture_is_loaded(runs: Runs, kind: str) -> None:
    names = [path.name.split("-") for path in (getattr(runs, kind) / "loaded").iterdir()]
    assert {int(index) for _, index in names} == set(range(24))
    assert {rank for rank, _ in names} == {"0", "1"}


def test_what_is_returned_is_what_was_trained(runs: Runs) -> None:
    assert _same(runs.learners["colour"].state_dict(), _load(runs.spawn / "rank-0.pt"))
    assert not runs.learners["colour"].training
    assert runs.fitted.learners == runs.learners
    assert runs.fitted.is_first
    choices = runs.fitted.selection_history["colour"]
    assert choices.steps.tolist() == list(range(7))
    assert torch.equal(choices.masks["block2"][-1], runs.learners["colour"].selected_mask()["block2"])


def test_stopped_in_one_process_and_resumed_is_as_uninterrupted(runs: Runs) -> None:
    for rank in range(2):
        assert "resume" in (runs.torchrun / f"interrupted-{rank}").read_text()
    assert _same(_load(runs.torchrun / "rank-0.pt"), _load(runs.spawn / "rank-0.pt"))
    losses = json.loads((runs.torchrun / "losses.json").read_text())
    assert losses == [record.loss for record in runs.fitted.history]


def test_two_processes_learn_what_one_does(runs: Runs) -> None:
    """Where neither BatchNorm nor noise looks at a process's own share: labels are missing, shares differ in size."""
    alone = built(Blind)
    recipe = tiny_recipe(epochs=2, calibration=0)
    fitted = fit(tiny_source(), {"shade": alone}, tiny_dataset(tasks=2), recipe, runtime=tiny_runtime())
    for name, value in runs.learners["shade"].state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-4, atol=1e-6)
    losses = [record.loss for record in runs.fitted.history if record.learner == "shade"]
    assert losses == pytest.approx([record.loss for record in fitted.history], rel=1e-4)
    assert runs.fitted.metrics["shade"].images == fitted.metrics["shade"].images == 9


def test_what_cannot_be_handed_over_is_one_line() -> None:
    method = built()
    method.hook = lambda: None
    with pytest.raises(SnowError, match="one device"):
        fit(tiny_source(), {"colour": method}, tiny_dataset(), tiny_recipe(), runtime=tiny_runtime(devices=2))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_error_of_a_process_is_raised_where_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr("multiprocessing.get_context", lambda _method: forking)
    with pytest.raises(SnowError, match="of 2 processes needs 2 or more"):
        launch.spawn(EpochSampler, (24, 3, 0, 0, 2), 1)
    with pytest.raises(RuntimeError, match=r"died \(exit codes 1\)"):
        launch.spawn(int, ("x",), 1)
