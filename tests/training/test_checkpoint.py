from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from snow.errors import SnowError
from snow.training import checkpoint

STATE = {"epoch": 3, "weights": torch.arange(1000.0), "nested": {"values": [1, 2.5, None, "x", (1, 2)]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


def test_save_and_load(path: Path) -> None:
    checkpoint.write_checkpoint(path, STATE)
    state = checkpoint.read_checkpoint(path)
    assert torch.equal(state["weights"], STATE["weights"])
    assert (state["epoch"], state["nested"]) == (3, STATE["nested"])
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_a_full_disk_leaves_the_checkpoint_before(path: Path) -> None:
    checkpoint.write_checkpoint(path, STATE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(SnowError, match=r"checkpoint\.pt: .*the one before it is kept") as caught:
            checkpoint.write_checkpoint(path, {**STATE, "epoch": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert checkpoint.read_checkpoint(path)["epoch"] == 3
    assert os.listdir(path.parent) == ["checkpoint.pt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_dying_at_any_call_leaves_the_checkpoint_before(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write_checkpoint(path, STATE)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.write_checkpoint(path, {**STATE, "epoch": 4})
    assert checkpoint.read_checkpoint(path)["epoch"] == 3
    checkpoint.write_checkpoint(path, {**STATE, "epoch": 5})
    assert checkpoint.read_checkpoint(path)["epoch"] == 5
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_bytes_reach_the_disk_before_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    checkpoint.write_checkpoint(path, STATE)
    assert calls == ["fsync", "replace", "fsync"]


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("kind", ["cut", "text", "foreign", "empty", "folder", "harmful"])
def test_what_is_no_checkpoint_is_refused(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.write_checkpoint(path, STATE)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-600])
    elif kind == "text":
        path.write_text("hello")
    elif kind == "foreign":
        torch.save({"weights": torch.zeros(2)}, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        torch.save({"format": 1, "x": _Harmful()}, path)
    with pytest.raises(SnowError, match=r"checkpoint\.pt"):
        checkpoint.read_checkpoint(path)
    assert not (tmp_path / "harm").exists()


def test_what_differs_is_named(path: Path) -> None:
    saved = {"recipe": {"lr": 0.1, "epochs": 3}, "learners": {"a": {"config": {"taps": [1, 2]}}}}
    checkpoint.require_same_run(path, saved, {**saved, "learners": {"a": {"config": {"taps": (1, 2)}}}})
    with pytest.raises(SnowError, match=r"recipe\.lr was 0\.1 and is 0\.2") as caught:
        checkpoint.require_same_run(path, saved, {**saved, "recipe": {"lr": 0.2, "epochs": 3}})
    assert "epochs" not in str(caught.value)
    with pytest.raises(SnowError, match=r"learners\.b\.config was absent"):
        checkpoint.require_same_run(path, saved, {**saved, "learners": {"b": {"config": 1}}})
