"""Bad input to the commands that need a hub: exit code 2, one line, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--task", "a/b"), "'a/b' cannot name a task"),
        (("--task", ".."), "'..' cannot name a task"),
        ((), "add --task NAME"),
        (("--labels", "one,two", "--task", "three"), "omit --task"),
        (("--task", "one", "--labels", "colour"), "label columns are for a table"),
        (("--task", "one", "--source", "resnet51"), "no model 'resnet51'"),
        (("--task", "one", "--source", "tiny/resnet18"), "unknown source"),
        (("--task", "one", "--no-pretrained"), "embedded source"),
        (("--task", "one", *TINY, "--weights", "missing.pth"), "no weight file missing.pth"),
        (("--task", "one", *TINY, "--taps", "nothing*"), "no tap 'nothing*'"),
        (("--task", "one", "--image-size", "8"), "too small"),
        (("--task", "one", "--method", "magic"), "no method 'magic'"),
        (("--task", "one", "--method", "fo", "--keep", "0.5"), "omit them"),
        (("--task", "one", "--method", "snow:keep=0.5", "--width", "0.5"), "omit them"),
        (("--task", "one", *TINY, "--workers", "0", "--method", "mp:patch=cotton"), "no patch 'cotton'"),
        (("--task", "one", "--keep", "2"), "keep"),
        (("--task", "one", "--log", "paper"), "no log 'paper'"),
        (("--task", "one", "--epochs", "0"), "epochs must be at least 1"),
        (("--task", "one", "--epochs", "many"), "--epochs"),
        (("--task", "one", "--optimizer", "magic"), "--optimizer"),
        (("--task", "one", "--patience", "3"), "validation"),
        (("--task", "one", "--test-fraction", "1"), "test fraction"),
        (("--task", "one", *TINY, "--augment", "magic", "--workers", "0"), "unknown augmentation 'magic'"),
        (("--task", "one", *TINY, "--devices", "0", "--precision", "32"), "devices must be at least 1, not 0"),
        (("--task", "one", *TINY, "--devices", "-1", "--precision", "32"), "devices must be at least 1, not -1"),
        (("--task", "one", *TINY, "--batch-size", "1", "--workers", "0"), "larger batch size"),
    ],
)
def test_train_refuses(refused: Refused, colours: Path, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    assert told in refused("train", colours, "--hub", tmp_path / "hub", *options)


def test_train_refuses_data_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    told = refused("train", tmp_path / "nowhere", "--task", "one", "--hub", tmp_path / "hub", *TINY)
    assert "there is no such folder" in told


def test_train_refuses_data_with_a_class_that_cannot_be_read(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    for path in (pictures / "train" / "red").iterdir():
        path.write_bytes(b"")
    told = refused("train", pictures, "--task", "one", "--hub", tmp_path / "hub", *TINY)
    assert "class 'red'" in told
    assert "the file is empty" in told


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_a_file_is_no_hub(refused: Refused, colours: Path, tmp_path: Path, command: str) -> None:
    file = tmp_path / "hub"
    file.write_text("not a folder")
    arguments = {
        "train": (colours, "--task", "one", "--hub", file, *TINY),
        "eval": (file, colours, "--task", "one"),
        "predict": (file, next(colours.rglob("*.png"))),
    }
    told = refused(command, *arguments[command])
    assert "hub" in told
    assert file.read_text() == "not a folder"


@pytest.mark.parametrize(
    "options",
    [
        ("--image-size", "32"),
        ("--source", "resnet18", "--no-pretrained"),
        ("--source", "test_resnet"),
        ("--source", "embedded"),
        ("--source", "torchvision/resnet18", "--no-pretrained"),
    ],
)
def test_a_source_other_than_the_hubs_is_refused(
    refused: Refused, hub: Path, colours: Path, options: tuple[str, ...]
) -> None:
    assert "omit --" in refused("train", colours, "--task", "new", "--hub", hub, *options)


def test_weights_other_than_the_hubs_are_refused(refused: Refused, hub: Path, colours: Path, tmp_path: Path) -> None:
    shutil.copy(hub / "source.safetensors", tmp_path / "mine.safetensors")
    told = refused("train", colours, "--task", "new", "--hub", hub, "--weights", tmp_path / "mine.safetensors")
    assert "mine.safetensors" in told


def test_a_task_of_another_source_fails_with_both_fingerprints(
    run: Callable[..., Any], refused: Refused, hub: Path, colours: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    options = ("--method", "fo", "--epochs", "1", "--workers", "0", "--seed", "7")
    run("train", colours, "--task", "theirs", "--hub", other, *TINY, *options)
    shutil.copytree(hub / "tasks" / "colours", other / "tasks" / "colours")
    assert refused("eval", other, colours, "--task", "colours").count("sha256:") == 2
    predicted = run("predict", other, next(colours.rglob("*.png")), "--tasks", "colours")
    assert (predicted.code, predicted.out.count("sha256:")) == (2, 2)


def test_a_damaged_task_fails_in_one_line(run: Callable[..., Any], refused: Refused, hub: Path, colours: Path) -> None:
    model = hub / "tasks" / "colours" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:100])
    picture = next(colours.rglob("*.png"))
    predicted = run("predict", hub, picture, "--tasks", "colours")
    assert (predicted.code, "error: task colours is damaged" in predicted.out) == (2, True)
    assert "has no task that can answer: task colours is damaged" in refused("predict", hub, picture)


def test_a_task_that_is_not_there_is_refused(refused: Refused, hub: Path, colours: Path) -> None:
    assert "it has colours" in refused("eval", hub, colours, "--task", "shapes")
    assert "it has colours" in refused("predict", hub, colours, "--tasks", "colours,shapes")


def test_no_answer_at_all_is_refused(refused: Refused, hub: Path, colours: Path) -> None:
    assert "--top-k" in refused("predict", hub, colours, "--top-k", "0")
    shutil.rmtree(hub / "tasks" / "colours")
    assert "no task yet" in refused("predict", hub, colours)
