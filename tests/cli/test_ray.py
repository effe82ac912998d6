"""Tasks and trials that are learned on workers of a Ray cluster of this machine, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from on_ray import below, own_cluster, parents, titled

if not Path("/proc/self/stat").exists():
    pytest.skip("looks for processes in /proc", allow_module_level=True)

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
LEARN = ("--batch-size", "6", "--workers", "0", "--lr", "0.01", "--augment", "none", "--precision", "32")
PATIENCE = 180


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--worker-cpus", "2"), "need --engine ray"),
        (("--engine", "ray", "--worker-cpus", "0"), "worker_cpus must be at least 1, not 0"),
        (("--engine", "slow"), "--engine"),
    ],
)
@pytest.mark.parametrize("command", [("train", "--task", "one", "--hub", "hub"), ("sweep",)])
def test_impossible_options_are_refused(
    refused: Callable[..., str], colours: Path, command: tuple[str, ...], options: tuple[str, ...], told: str
) -> None:
    assert told in refused(*command, colours, *TINY, *options)


def finish(command: tuple[str, ...], during: Callable[[int], object]) -> None:
    """Runs `snow` with a cluster of its own; `during` is called with its number until it gives something."""
    with own_cluster() as environment:
        process = subprocess.Popen([sys.executable, "-m", "snow", *command], env=environment, stderr=subprocess.PIPE)
        started: set[int] = set()
        try:
            until, seen = time.monotonic() + PATIENCE, None
            while process.poll() is None and not seen:
                assert time.monotonic() < until
                started |= set(below(process.pid))
                seen = during(process.pid)
                time.sleep(0.1)
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors.decode()
            assert seen, "it ended before it was disturbed"
        finally:
            process.kill()
            for one in started & parents().keys():
                os.kill(one, signal.SIGKILL)


@pytest.mark.ray
def test_a_worker_is_killed_and_each_task_is_what_it_would_have_been(
    pictures: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    rows = [
        f"{one.relative_to(tmp_path)},{','.join(one.parts[-3:-1])},{('round', 'flat')[number % 2]}"
        for number, one in enumerate(sorted(pictures.rglob("*.png")))
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,split,colour,shape", *rows]) + "\n")
    options = (*TINY, *LEARN, "--epochs", "20", "--start", "zero")
    on_ray, local = tmp_path / "ray", tmp_path / "local"

    def kill(root: int) -> bool:
        """A worker that has a checkpoint to go on from, and is not done."""
        workers = titled(root, b"ray::train_job")
        if not (on_ray / "runs" / "colour" / "checkpoint.pt").exists() or not workers:
            return False
        for one in workers:
            os.kill(one, signal.SIGKILL)
        return not (on_ray / "tasks" / "colour").exists()

    command = ("train", str(table), "--tasks", "colour,shape", "--hub", str(on_ray), "--engine", "ray", *options)
    finish(command, kill)
    for task in ("colour", "shape"):
        assert run("train", table, "--task", task, "--labels", task, "--hub", local, *options).code == 0
        one, other = (hub / "tasks" / task / "model.safetensors" for hub in (on_ray, local))
        assert one.read_bytes() == other.read_bytes()
    assert not list(on_ray.rglob("checkpoint.pt"))


@pytest.mark.ray
def test_a_worker_is_killed_and_the_trials_of_a_sweep_are_what_they_would_have_been(
    colours: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    pytest.importorskip("optuna")
    options = ("--over", "keep=1/4", "--together", "1", *TINY, *LEARN, "--epochs", "20")
    on_ray, local = tmp_path / "ray.json", tmp_path / "local.json"

    def kill(root: int) -> bool:
        workers = titled(root, b"ray::group_results")
        if len(list(tmp_path.glob(".ray.*.checkpoint.pt"))) < 1 or not workers:
            return False
        os.kill(workers[0], signal.SIGKILL)
        return True

    finish(("sweep", str(colours), "--out", str(on_ray), "--engine", "ray", *options), kill)
    assert run("sweep", colours, "--out", local, *options).code == 0
    one, other = (json.loads(path.read_text())["trials"] for path in (on_ray, local))
    assert sorted(one, key=str) == sorted(other, key=str)
