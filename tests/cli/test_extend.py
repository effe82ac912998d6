"""`snow extend`, `snow hub log` and `snow hub rollback`, and how familiar pictures are to a task."""

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

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from snow.cli.app import main
from snow.hub import Hub
from snow.hub.versions import KEPT, version_folders
from snow.store import write_lock

Run = Callable[..., Any]
TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = (
    "--epochs",
    "3",
    "--batch-size",
    "8",
    "--workers",
    "0",
    "--lr",
    "0.01",
    "--augment",
    "none",
    "--precision",
    "32",
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def six(write_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of six colours."""
    names = ("a-red", "b-green", "c-blue", "d-yellow", "e-cyan", "f-pink")
    return write_folder(tmp_path_factory.mktemp("six"), names, train=12, test=6)


@pytest.fixture(scope="module")
def four(six: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the first four colours."""
    folder = tmp_path_factory.mktemp("four")
    for part in ("train", "test"):
        (folder / part).mkdir()
        for name in sorted(path.name for path in (six / part).iterdir())[:4]:
            (folder / part / name).symlink_to(six / part / name)
    return folder


@pytest.fixture(scope="module")
def new(six: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training pictures of the fifth colour, which the task has not seen."""
    folder = tmp_path_factory.mktemp("new")
    (folder / "e-cyan").symlink_to(six / "train" / "e-cyan")
    return folder


@pytest.fixture(scope="module")
def trained(four: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    hub = tmp_path_factory.mktemp("extend") / "hub"
    assert main(["train", str(four), "--task", "colours", "--hub", str(hub), *TINY, *QUICK]) == 0
    return hub


@pytest.fixture
def hub(trained: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "hub"))


def answers(hub: Path, folder: Path) -> list[str]:
    opened = Hub.open(hub)
    rows = opened.predict(sorted(folder.iterdir()), ["colours"])
    return [row["colours"].classes[0] for row in rows]  # ty: ignore


def test_a_class_is_added_and_the_others_stay(run: Run, hub: Path, four: Path, six: Path, new: Path) -> None:
    assert set(answers(hub, six / "test" / "e-cyan")) <= {"a-red", "b-green", "c-blue", "d-yellow"}
    result = run("extend", hub, "colours", new, "--check", four, "--json")
    assert result.code == 0, result.err
    assert result.json["added"] == {"e-cyan": 12}
    assert result.json["classes"] == ["a-red", "b-green", "c-blue", "d-yellow", "e-cyan"]
    assert result.json["after"] >= result.json["before"] - 0.05
    assert answers(hub, six / "test" / "e-cyan").count("e-cyan") >= 5
    assert run("hub", "verify", hub).code == 0
    measured = run("eval", hub, four, "--task", "colours", "--json").json
    assert measured["top1"] == pytest.approx(result.json["after"])


def test_a_task_in_few_bits_stays_in_few_bits(run: Run, four: Path, new: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    options = ("--method", "partial:stages=1", "--weight-bits", "4", *TINY, *QUICK)
    assert run("train", four, "--task", "colours", "--hub", hub, *options).code == 0
    config, model = hub / "tasks" / "colours" / "config.json", hub / "tasks" / "colours" / "model.safetensors"
    before = model.stat().st_size
    assert run("extend", hub, "colours", new).code == 0
    assert json.loads(config.read_text("utf-8"))["bits"] == 4
    assert model.stat().st_size < 1.5 * before
    assert run("hub", "verify", hub).code == 0


def test_training_is_kept_where_left_out_pictures_say_so(run: Run, hub: Path, four: Path, six: Path, new: Path) -> None:
    result = run("extend", hub, "colours", new, "--check", four, "--train", "--json")
    assert result.code == 0, result.err
    trained = result.json["train"]
    assert trained["images"] == 12
    assert trained["kept"]
    assert trained["after"] >= trained["before"]
    assert result.json["after"] >= result.json["before"] - 0.05
    assert answers(hub, six / "test" / "e-cyan").count("e-cyan") >= 5
    assert run("hub", "verify", hub).code == 0


def test_log_and_rollback(run: Run, hub: Path, four: Path, new: Path) -> None:
    before = files(hub / "tasks" / "colours")
    assert run("extend", hub, "colours", new).code == 0
    entries = run("hub", "log", hub, "colours", "--json").json
    assert [(entry["version"], entry["classes"]) for entry in entries] == [(None, 5), (1, 4)]
    assert entries[0]["change"] == "extended: class e-cyan (12 pictures)"
    assert "extended: class e-cyan" in run("hub", "log", hub, "colours").out
    assert run("hub", "rollback", hub, "colours").code == 0
    assert files(hub / "tasks" / "colours") == before
    entries = run("hub", "log", hub, "colours", "--json").json
    assert [entry["classes"] for entry in entries] == [4, 5, 4]
    assert run("hub", "rollback", hub, "colours", "--to", "2").code == 0
    assert len(Hub.open(hub).task("colours").classes) == 5


def test_only_the_last_versions_are_kept(run: Run, hub: Path) -> None:
    for number in range(KEPT + 2):
        assert run("extend", hub, "colours", "--rename", f"a-red{number or ''}=a-red{number + 1}").code == 0
    numbers = list(version_folders(hub, "colours"))
    assert numbers == list(range(3, KEPT + 3))
    assert run("hub", "remove", hub, "colours").code == 0
    assert version_folders(hub, "colours") == {}


def test_classes_are_removed_and_renamed(run: Run, hub: Path, four: Path, new: Path, six: Path) -> None:
    assert run("extend", hub, "colours", new, "--remove", "a-red", "--rename", "b-green=leaf").code == 0
    task = Hub.open(hub).task("colours")
    assert task.classes == ("leaf", "c-blue", "d-yellow", "e-cyan")
    assert answers(hub, six / "test" / "b-green").count("leaf") >= 5
    assert run("extend", hub, "colours", "--remove", "c-blue,e-cyan").code == 0
    assert Hub.open(hub).task("colours").classes == ("leaf", "d-yellow")
    assert answers(hub, six / "test" / "d-yellow").count("d-yellow") >= 5


def test_an_extended_task_is_extended_again(run: Run, hub: Path, six: Path, new: Path, tmp_path: Path) -> None:
    assert run("extend", hub, "colours", new).code == 0
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "f-pink").symlink_to(six / "train" / "f-pink")
    assert run("extend", hub, "colours", tmp_path / "last").code == 0
    for name in ("a-red", "d-yellow", "e-cyan", "f-pink"):
        assert answers(hub, six / "test" / name).count(name) >= 5, name
    result = run("export", hub, tmp_path / "hub.pt2")
    assert result.code == 0, result.err


def test_more_pictures_of_a_class_change_only_what_they_touch(run: Run, hub: Path, six: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a-red").symlink_to(six / "test" / "a-red")
    result = run("extend", hub, "colours", tmp_path / "more", "--json")
    assert (result.json["added"], result.json["corrected"]) == ({}, {"a-red": 6})
    assert answers(hub, six / "test" / "a-red") == ["a-red"] * 6


def test_what_it_learns_is_not_measured_without_a_word(run: Run, hub: Path, six: Path, four: Path) -> None:
    """A test part is not learned; pictures that are learned although they are measured are counted."""
    result = run("extend", hub, "colours", six, "--check", four, "--json")
    assert result.json["added"] == {"e-cyan": 12, "f-pink": 12}
    assert "the 36 pictures of the test part" in result.err
    assert "are learned now" not in result.err
    assert "training pictures" not in run("eval", hub, six, "--task", "colours", "--json").err
    assert "48 of the 72 pictures were learned before, and count twice now" in result.err
    result = run("extend", hub, "colours", six / "test", "--check", four)
    assert "learned before" not in result.err
    assert "24 of the 24 images of --check are learned now" in result.err
    result = run("eval", hub, six, "--task", "colours", "--json")
    assert "36 of the 36 pictures measured are training pictures" in result.err


def test_one_process_at_a_time_extends_a_task(refused: Callable[..., str], hub: Path, new: Path) -> None:
    with write_lock("task", hub / ".locks" / "colours.lock"):
        assert "task colours of hub" in refused("extend", hub, "colours", new)
    assert Hub.open(hub).task("colours").classes[-1] == "d-yellow"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("colours",), "there is nothing to do"),
        (("other", "--remove", "a"), "no task 'other'"),
        (("colours", "--remove", "pink"), "has no class 'pink'"),
        (("colours", "--train", "--remove", "a-red"), "there is nothing to train on"),
        (("colours", "--rename", "a-red"), "--rename takes OLD=NEW"),
        (("colours", "--rename", "a-red=b-green"), "b-green"),
        (("colours", "--remove", "a-red,b-green,c-blue"), "at least two classes"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    refused: Callable[..., str], hub: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused("extend", hub, *arguments)


@pytest.mark.slow
def test_a_kill_leaves_one_version_or_the_other(hub: Path, new: Path) -> None:
    """Killed at any moment, the task is what it was or what it becomes, and answers."""
    before = files(hub / "tasks" / "colours")
    command = [sys.executable, "-m", "snow", "extend", str(hub), "colours", str(new)]
    started = time.monotonic()
    assert subprocess.run(command, capture_output=True).returncode == 0
    seconds = time.monotonic() - started
    after = files(hub / "tasks" / "colours")
    assert main(["hub", "rollback", str(hub), "colours"]) == 0
    for share in (0.9, 0.97):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(share * seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = files(hub / "tasks" / "colours")
        names = {name: json.loads(part["config.json"])["classes"] for name, part in (("a", before), ("b", after))}
        assert json.loads(found["config.json"])["classes"] in names.values()
        assert Hub.open(hub).verify()["colours"].differences == ()


def test_pictures_like_those_of_training_are_known(run: Run, hub: Path, six: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    noise[::2] = 255
    Image.fromarray(noise).save(tmp_path / "noise.png")
    names = ("a-red", "b-green", "c-blue", "d-yellow")
    own = run("predict", hub, *(six / "test" / name for name in names), "--json").json
    shares = [entry["tasks"]["colours"]["known"] for entry in own]
    [other] = run("predict", hub, tmp_path / "noise.png", "--json").json
    known = other["tasks"]["colours"]["known"]
    assert 0 <= known < 0.01 < np.median(shares) < 1
    assert "class" not in other["tasks"]["colours"]
    [rejected] = run("predict", hub, tmp_path / "noise.png", "--json", "--reject", known + 0.01).json
    assert rejected["tasks"]["colours"]["class"] is None
    assert "unknown" in run("predict", hub, tmp_path / "noise.png", "--reject", known + 0.01).out
    assert run("predict", hub, tmp_path / "noise.png", "--reject", "2").code == 2


def test_damaged_statistics_are_found(run: Run, hub: Path) -> None:
    path = hub / "tasks" / "colours" / "known.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    result = run("predict", hub, hub, "--json")
    assert result.code == 2
    assert "known.safetensors" in result.err


def test_drift_tells_other_pictures_from_another_sample(run: Run, hub: Path, six: Path, tmp_path: Path) -> None:
    own = [six / "test" / name for name in ("a-red", "b-green", "c-blue", "d-yellow")]
    same = run("drift", hub, *own, "--json")
    assert same.code == 0, same.out
    assert same.json["tasks"]["colours"]["images"] == 24
    (tmp_path / "dark").mkdir()
    for number, path in enumerate(sorted((six / "train").rglob("*.png"))):
        Image.fromarray(np.asarray(Image.open(path)) // 8).save(tmp_path / "dark" / f"{number}.png")
    dark = run("drift", hub, tmp_path / "dark", "--json")
    assert dark.code == 1
    assert dark.json["tasks"]["colours"]["distance"] > same.json["tasks"]["colours"]["distance"] + 0.2
    assert "changed" in run("drift", hub, tmp_path / "dark").out
    assert dark.json["tasks"]["colours"]["appearance"] > 0.5
    assert same.json["tasks"]["colours"]["appearance"] == same.json["tasks"]["colours"]["content"] == 0


def test_tasks_of_early_versions_keep_no_reference(run: Run, hub: Path, six: Path) -> None:
    now = run("drift", hub, six / "test", "--json").json["tasks"]["colours"]
    path = hub / "tasks" / "colours" / "known.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "reference" not in name}, path)
    (hub / "tasks" / "colours" / "fingerprint.json").unlink()
    early = run("drift", hub, six / "test", "--json").json["tasks"]["colours"]
    assert (early["content"], early["appearance"]) == (None, None)
    shared = ("images", "distance", "median", "unfamiliar")
    assert [early[key] for key in shared] == [now[key] for key in shared]
    assert "as in training" in run("drift", hub, six / "test").out


def test_pick_lists_pictures_to_label(run: Run, hub: Path, six: Path) -> None:
    entries = run("pick", hub, "colours", six / "test", "--count", "5", "--json").json
    assert len({entry["image"] for entry in entries}) == 5
    assert all(0 <= entry["doubt"] <= 1 for entry in entries)
    assert "doubt" in run("pick", hub, "colours", six / "test", "--count", "2").out
    assert run("pick", hub, "colours", six / "test", "--count", "0").code == 2
    assert len(run("pick", hub, "colours", six / "test", "--count", "500", "--json").json) == 36
