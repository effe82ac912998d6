"""`snow train` from pictures to a task in a hub."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from snow.training.listeners import ProgressBar

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = ("--epochs", "3", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none")

Run = Callable[..., Any]


def test_it_leaves_a_task_that_has_learned_and_logs_but_no_checkpoint(learned: Path) -> None:
    task = learned / "tasks" / "colours"
    tensors = {f"{name}.safetensors" for name in ("choice", "known", "model")}
    files = tensors | {"config.json", "fingerprint.json", "metrics.json"}
    assert {path.name for path in task.iterdir()} == files
    metrics = json.loads((task / "metrics.json").read_text())
    assert metrics["test"]["images"] == 12
    assert metrics["test"]["top1"] > 0.8
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3]
    config = json.loads((task / "config.json").read_text())
    assert config["classes"] == ["blue", "green", "red"]
    assert config["training"]["recipe"]["epochs"] == 3
    assert config["training"]["data"]["train_images"] == 24
    assert [path.name for path in (learned / "runs" / "colours").iterdir()] == ["history.csv"]
    assert load_file(task / "model.safetensors")


def test_another_task_on_the_same_hub_changes_no_byte_of_the_first(run: Run, hub: Path, colours: Path) -> None:
    before = _bytes(hub / "tasks" / "colours")
    result = run("train", colours, "--task", "again", "--hub", hub, "--method", "fo", "--json", *QUICK)
    assert result.code == 0
    (entry,) = result.json["tasks"]
    assert entry["task"] == "again"
    assert entry["images"] == 12
    assert Path(entry["folder"], "model.safetensors").is_file()
    assert _bytes(hub / "tasks" / "colours") == before


def test_replacing_a_task_is_asked_for(run: Run, refused: Callable[..., str], hub: Path, colours: Path) -> None:
    arguments = ("train", colours, "--task", "colours", "--hub", hub, "--seed", "5", *QUICK)
    assert "already" in refused(*arguments)
    before = _bytes(hub / "tasks" / "colours")
    assert run(*arguments, "--replace").code == 0
    assert _bytes(hub / "tasks" / "colours") != before
    assert sorted(path.name for path in (hub / "tasks").iterdir()) == ["colours"]


@pytest.mark.parametrize("option", ["--tasks", "--labels"])
def test_several_label_columns_are_several_tasks_in_one_run(
    run: Run, tmp_path: Path, pictures: Path, option: str
) -> None:
    """Pictures may lack labels: every third one has no colour, and most batches have no `rare` label at all."""
    rows = ["path,split,colour,warm,rare"]
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        split, colour = path.parts[-3:-1]
        warm = "yes" if colour == "red" else "no"
        rare = warm if number % 8 == 0 else ""
        rows.append(f"{path.relative_to(tmp_path)},{split},{colour if number % 3 else ''},{warm},{rare}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows))
    hub = tmp_path / "hub"
    small = ["4" if one == "8" else one for one in QUICK]
    result = run("train", table, option, "colour,warm,rare", "--hub", hub, "--json", *TINY, *small)
    assert result.code == 0, result.err
    tasks = {entry["task"]: entry for entry in result.json["tasks"]}
    assert list(tasks) == ["colour", "warm", "rare"]
    assert {name: entry["images"] for name, entry in tasks.items()} == {"colour": 8, "warm": 12, "rare": 2}
    assert tasks["warm"]["top1"] > 0.8
    assert run("eval", hub, table, "--task", "warm", "--json").json["images"] == 12
    assert run("hub", "verify", hub).code == 0
    assert [path.name for path in (hub / "runs").glob("[!.]*")] == ["colour+warm+rare"]
    for name, labelled in (("colour", 16), ("warm", 24), ("rare", 3)):
        config = json.loads((hub / "tasks" / name / "config.json").read_text())
        assert config["training"]["data"]["train_images"] == labelled


def test_stopped_and_resumed_it_learns_the_same_bits(
    run: Run, learned: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    arguments = ("train", colours, "--task", "colours", "--hub", hub, "--start", "zero", *TINY, *QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(ProgressBar, "on_step", _stop_at(5))
        stopped = run(*arguments)
    assert stopped.code == 130
    assert "--resume" in stopped.err.splitlines()[-1]
    assert not list((hub / "tasks").iterdir())
    assert run(*arguments, "--resume").code == 0
    assert (hub / "tasks/colours/model.safetensors").read_bytes() == (
        learned / "tasks/colours/model.safetensors"
    ).read_bytes()
    assert not (hub / "runs/colours/checkpoint.pt").exists()


def test_without_resume_it_says_that_it_starts_over(
    run: Run, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--task", "colours", "--hub", tmp_path / "hub")
    arguments = ("train", colours, *where, "--start", "zero", *TINY, *QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(ProgressBar, "on_step", _stop_at(1))
        run(*arguments)
    result = run(*arguments)
    assert result.code == 0
    assert "starting over" in result.err


def test_bad_pictures_are_named_and_left_out(run: Run, pictures: Path, tmp_path: Path) -> None:
    broken = pictures / "train" / "red" / "broken.jpg"
    broken.write_bytes(b"no picture")
    result = run("train", pictures, "--task", "colours", "--hub", tmp_path / "hub", *TINY, *QUICK)
    assert result.code == 0
    assert [line for line in result.err.splitlines() if str(broken) in line] == [
        f"warning: skipped {broken}: not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"
    ]


def test_options_reach_the_recipe_and_the_method(run: Run, colours: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    given = ("--keep", "0.5", "--sigma2", "0", "--taps", "layer2*,layer3*", "--label-smoothing", "0")
    assert run("train", colours, "--task", "colours", "--hub", hub, *TINY, *QUICK, *given).code == 0
    config = json.loads((hub / "tasks" / "colours" / "config.json").read_text())
    assert config["config"]["options"]["keep"] == 0.5
    assert config["config"]["options"]["pooling"]["sigma2"] == 0
    assert {level["tap"].split(".")[0] for level in config["config"]["plan"]["levels"]} <= {"layer2", "layer3"}
    assert config["training"]["recipe"]["label_smoothing"] == 0


def test_a_method_takes_its_options_with_its_name(run: Run, colours: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    label = ("--method", "mp:patch=scale_bias")
    assert run("train", colours, "--task", "colours", "--hub", hub, *TINY, *QUICK, *label).code == 0
    config = json.loads((hub / "tasks" / "colours" / "config.json").read_text())
    assert (config["method"], config["config"]["patch"]) == ("mp", "scale_bias")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _stop_at(step: int) -> Callable[..., None]:
    def on_step(_self: ProgressBar, report: Any) -> None:
        if report.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


def test_what_the_source_gives_is_kept_while_it_learns_or_for_longer(run: Run, colours: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for task, folder in (("short", ()), ("long", ("--cache-dir", kept))):
        where = ("--task", task, "--hub", tmp_path / "hub")
        options = ("--start", "zero", "--cache", "50MB", "--cache-views", "1", *folder)
        result = run("train", colours, *where, *TINY, *QUICK, *options)
        assert result.code == 0
        assert "features of 24 views of pictures are kept in" in result.err
        assert not (tmp_path / "hub" / "runs" / task / "cache").exists()
    assert {path.name for path in kept.iterdir()} == {"cache.json", "rows.bin", "there-0.npy"}
    assert run("eval", tmp_path / "hub", colours, "--task", "short", "--json").code == 0


@pytest.mark.slow
def test_a_source_in_8_bits_teaches_and_measures(run: Run, hub: Path, colours: Path) -> None:
    pytest.importorskip("onnxruntime")
    arguments = ("--precision", "int8", "--cache", "100MB", *QUICK)
    result = run("train", colours, "--task", "bytes", "--hub", hub, "--json", *arguments)
    assert result.code == 0
    assert result.json["tasks"][0]["top1"] > 0.8
    found = {
        precision: run("eval", hub, colours, "--task", "bytes", "--precision", precision, "--json").json
        for precision in ("int8", "32")
    }
    assert found["int8"]["top1"] == result.json["tasks"][0]["top1"]
    assert found["32"]["top1"] > 0.8


def test_a_cache_that_cannot_be_is_refused(refused: Callable[..., str], colours: Path, tmp_path: Path) -> None:
    here = ("train", colours, "--task", "one", "--hub", tmp_path / "hub", *TINY, *QUICK)
    assert "more than the 1 KB of the cache" in refused(*here, "--cache", "1KB")
    assert "'lots' is not a size: write 4GB or 500MB" in refused(*here, "--cache", "lots")
    assert "learns from the pictures themselves" in refused(*here, "--cache", "1GB", "--method", "ft")


def test_a_finished_task_is_trained_for_more_epochs(
    run: Run, refused: Callable[..., str], hub: Path, colours: Path
) -> None:
    assert "add --task" in refused("train", colours, "--hub", hub, "--warm-start")
    assert "omit --method" in refused(
        "train", colours, "--hub", hub, "--task", "colours", "--warm-start", "--keep", "1"
    )
    assert "has no task 'new'" in refused("train", colours, "--hub", hub, "--task", "new", "--warm-start")
    result = run("train", colours, "--hub", hub, "--task", "colours", "--warm-start", *QUICK, "--json")
    assert result.code == 0, result.err
    config = json.loads((hub / "tasks" / "colours" / "config.json").read_text())
    assert [recipe["epochs"] for recipe in config["training"]["earlier_recipes"]] == [3]
