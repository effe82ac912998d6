"""A run that is stopped and resumed ends with the weights, bit by bit, of one that was not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import built, same_tensors, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.data import Dataset
from snow.errors import SnowError
from snow.methods import METHODS, Method
from snow.process.interrupt import Interrupt, Interrupted
from snow.training import Recipe
from snow.training.fit import fit
from snow.training.history import EpochRecord, Fitted, RunInfo, StepReport
from snow.training.listeners import Listener
from snow.training.process_group import Readback

HARD = {"validation": 0.25, "patience": 2, "ema": 0.5, "clip_grad": 1.0, "epochs": 4}


class Stop(Listener):
    """After a step, has another process send a signal to this one and to those that load its pictures."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number
        self.info: RunInfo | None = None

    def on_start(self, run: RunInfo) -> None:
        self.info = run

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            pids = [str(child.pid) for child in multiprocessing.active_children()]
            subprocess.run(["kill", f"-{int(self.number)}", *pids, str(os.getpid())], check=True)


def run(learners: dict[str, Method], recipe: Recipe, tasks: int = 1, **options: Any) -> Fitted:
    runtime = tiny_runtime(**options.pop("runtime", {}))
    return fit(tiny_source(), learners, tiny_dataset(tasks=tasks), recipe, runtime=runtime, **options)


def untimed(history: Sequence[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds=0.0, images_per_second=0.0) for record in history]


@pytest.mark.parametrize(
    ("step", "workers", "late", "changes"),
    [
        (3, 0, False, {}),
        (4, 0, False, {}),
        (4, 2, False, {}),
        (4, 0, True, {}),
        (3, 0, False, HARD),
        (5, 0, False, HARD),
        (5, 0, False, {"optimizer": "sgd"}),
        (5, 0, False, {"precision": "bf16"}),
    ],
)
def test_weights_are_bit_equal(
    tmp_path: Path, step: int, workers: int, late: bool, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if late:
        monkeypatch.setattr("snow.training.loop.Readback", lambda late: Readback(True))
    recipe = tiny_recipe(**changes)
    path = tmp_path / "checkpoint.pt"
    whole = {"colour": built(seed=1), "shade": built(seed=2)}
    expected = run(whole, recipe, tasks=2)
    where = {"workers": workers}
    stopped = {"colour": built(seed=1), "shade": built(seed=2)}
    with pytest.raises(Interrupted, match="resume"):
        run(stopped, recipe, tasks=2, runtime=where, checkpoint=path, listeners=[Stop(step)])
    assert not same_tensors(stopped["colour"], whole["colour"])
    resumed = {"colour": built(seed=8), "shade": built(seed=9)}
    again = Stop(step=-1)
    torch.manual_seed(99)
    fitted = run(resumed, recipe, tasks=2, runtime=where, checkpoint=path, resume=True, listeners=[again])
    for name in whole:
        assert same_tensors(resumed[name], whole[name])
        assert resumed[name].calibrations == 0
    assert untimed(fitted.history) == untimed(expected.history)
    assert fitted.metrics == expected.metrics
    assert again.info is not None
    assert step <= again.info.first_step <= step + 1 + late  # a late report comes one step later


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"tail"}))  # a start by evidence, see `test_evidence`
def test_every_method_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    path = tmp_path / "checkpoint.pt"
    config = {"start": "zero"} if name == "snow" else {}  # a start by evidence takes no step on so few pictures
    whole, stopped, resumed = (built(METHODS[name], seed=seed, **config) for seed in (1, 1, 2))
    run({"colour": whole}, tiny_recipe())
    with pytest.raises(Interrupted):
        run({"colour": stopped}, tiny_recipe(), checkpoint=path, listeners=[Stop(5)])
    run({"colour": resumed}, tiny_recipe(), checkpoint=path, resume=True)
    assert same_tensors(resumed, whole)
    assert not same_tensors(stopped, whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    first = {"colour": built()}
    expected = run(first, tiny_recipe(), checkpoint=path)
    second = {"colour": built(seed=5)}
    fitted = run(second, tiny_recipe(), checkpoint=path, resume=True)
    assert same_tensors(first["colour"], second["colour"])
    assert second["colour"].progress == []
    assert fitted.history == expected.history
    assert fitted.metrics == expected.metrics


def test_without_a_checkpoint_it_starts_from_the_start(tmp_path: Path) -> None:
    first, second = {"colour": built()}, {"colour": built()}
    run(first, tiny_recipe())
    run(second, tiny_recipe(), checkpoint=tmp_path / "none.pt", resume=True)
    assert same_tensors(first["colour"], second["colour"])


def test_workers_and_checkpoints_change_nothing(tmp_path: Path) -> None:
    first, second = {"colour": built()}, {"colour": built()}
    run(first, tiny_recipe(augment="trivial"))
    often = {"workers": 2, "checkpoint_seconds": 0}
    run(second, tiny_recipe(augment="trivial"), runtime=often, checkpoint=tmp_path / "checkpoint.pt")
    assert same_tensors(first["colour"], second["colour"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    method = built()
    with pytest.raises(Interrupted, match="epoch 1 of 3 after 3 of 3 steps") as caught:
        run(
            {"colour": method},
            tiny_recipe(),
            runtime={"workers": 1},
            checkpoint=tmp_path / "c.pt",
            listeners=[Stop(3, number)],
        )
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.signal == number
    assert signal.getsignal(number) == before


def test_without_a_path_a_signal_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted, match="steps$"):
        run({"colour": built()}, tiny_recipe(), listeners=[Stop(2)])
    assert os.listdir(tmp_path) == []


def test_a_second_interrupt_a_second_later_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Interrupt() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with Interrupt() as inner:
            assert inner.requested
        now = 102.0
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def _other_labels() -> Dataset:
    dataset = tiny_dataset()
    dataset.train.labels[0] = (dataset.train.labels[0] + 1) % 3
    return dataset


@pytest.mark.parametrize(
    ("match", "change"),
    [
        (r"recipe\.lr was 0\.01 and is 0\.02", lambda: {"recipe": tiny_recipe(lr=0.02)}),
        (r"learners\.colour\.config\.noise was 0\.1 and is 0\.3", lambda: {"learners": {"colour": built(noise=0.3)}}),
        ('learners.colour.method was "noisy" and is absent', lambda: {"learners": {"other": built()}}),
        ("data was", lambda: {"dataset": _other_labels()}),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, match: str, change: Callable[[], dict[str, Any]]
) -> None:
    path = tmp_path / "checkpoint.pt"
    arguments = {"learners": {"colour": built()}, "dataset": tiny_dataset(), "recipe": tiny_recipe(epochs=1)}
    source = tiny_source()
    fit(source, **arguments, runtime=tiny_runtime(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(SnowError, match=match) as caught:
        fit(source, **{**arguments, **change()}, runtime=tiny_runtime(), checkpoint=path, resume=True)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_loading_and_saving_more_often_is_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole, resumed = {"colour": built()}, {"colour": built(seed=5)}
    run(whole, tiny_recipe())
    with pytest.raises(Interrupted):
        run({"colour": built()}, tiny_recipe(), checkpoint=path, listeners=[Stop(4)])
    often = Stop(step=-1)
    run(
        resumed,
        tiny_recipe(),
        runtime={"workers": 1, "checkpoint_seconds": 0},
        checkpoint=path,
        resume=True,
        listeners=[often],
    )
    assert same_tensors(resumed["colour"], whole["colour"])
    assert often.info is not None
    assert often.info.first_step > 0


def test_a_full_disk_ends_the_run_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnowError, match="cannot save the checkpoint"):
        run({"colour": built()}, tiny_recipe(), checkpoint=tmp_path / "file" / "checkpoint.pt")
