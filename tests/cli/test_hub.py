"""`snow hub`: looking into a hub, changing it, and finding out what has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

Run = Callable[..., Any]
Refused = Callable[..., str]

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")


@pytest.fixture
def other(run: Run, learned: Path, tmp_path: Path) -> Path:
    """A hub of the same source without tasks."""
    other = tmp_path / "other"
    shutil.copytree(learned, other, ignore=shutil.ignore_patterns("tasks", "runs"))
    return other


def change_tensor(folder: Path) -> str:
    tensors = load_file(folder / "model.safetensors")
    tensors["delta.classifier.bias"].view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors")
    return "delta.classifier.bias"


def break_tasks(hub: Path) -> dict[str, str]:
    """Adds tasks that cannot answer beside `colours`; gives what should be said of each."""
    for name in ("newer", "truncated", "foreign", "empty"):
        shutil.copytree(hub / "tasks" / "colours", hub / "tasks" / name)
    config = json.loads((hub / "tasks" / "colours" / "config.json").read_text())
    (hub / "tasks" / "newer" / "config.json").write_text(json.dumps({**config, "format": 9}))
    (hub / "tasks" / "foreign" / "config.json").write_text(
        json.dumps({**config, "source": {"fingerprint": "sha256:1"}})
    )
    model = hub / "tasks" / "truncated" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-10])
    for path in (hub / "tasks" / "empty").iterdir():
        path.unlink()
    (hub / "tasks" / "link").symlink_to(hub / "tasks" / "colours")
    (hub / "tasks" / "no name").mkdir()
    return {
        "newer": "has format 9, newer",
        "truncated": "model.safetensors",
        "foreign": "another source",
        "empty": "config.json cannot be read",
        "link": "is a link",
        "no name": "cannot name a task",
    }


def warned(err: str) -> dict[str, str]:
    lines = [
        line.removeprefix("warning: task ").replace(" has no prediction: ", " is left out: ").split(" is left out: ")
        for line in err.splitlines()
    ]
    assert len(lines) == err.count("warning: task ")
    return dict(lines)


def test_init_makes_a_hub_once(run: Run, refused: Refused, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    made = run("hub", "init", hub, *TINY, "--json")
    assert made.code == 0
    assert made.json["source"]["architecture"] == "timm/test_resnet"
    assert run("hub", "list", hub, "--json").json == []
    again = run("hub", "init", hub)
    assert (again.code, again.err) == (0, f"hub {hub} exists already\n")
    assert made.json["source"]["fingerprint"] in again.out.replace("\n", "").replace(" ", "")
    assert "omit --image-size" in refused("hub", "init", hub, "--image-size", "32")
    (tmp_path / "file").touch()
    assert "is a file" in refused("hub", "init", tmp_path / "file")


def test_list_and_predict_go_on_without_tasks_that_cannot_answer(run: Run, hub: Path, colours: Path) -> None:
    expected = break_tasks(hub)
    picture = colours / "test" / "red" / "11.png"
    for arguments in (("hub", "list", hub), ("predict", hub, picture), ("hub", "show", hub)):
        result = run(*arguments, "--json")
        assert result.code == 0
        found = warned(result.err)
        assert {name: told in found[name] for name, told in expected.items()} == dict.fromkeys(expected, True)
        assert found.keys() == expected.keys()
    assert [entry["task"] for entry in run("hub", "list", hub, "--json").json] == ["colours"]
    [entry] = run("predict", hub, picture, "--json").json
    assert entry["tasks"].pop("colours")["classes"][0]["class"] == "red"
    assert {name: list(answer) for name, answer in entry["tasks"].items()} == {name: ["error"] for name in expected}


def test_show_says_what_is_known(run: Run, refused: Refused, hub: Path) -> None:
    shown = run("hub", "show", hub, "--json").json
    assert [entry["task"] for entry in shown["tasks"]] == ["colours"]
    assert shown["source"] == json.loads((hub / "source.json").read_text())
    for where in (hub / "colours", hub / "tasks" / "colours"):
        task = run("hub", "show", where, "--json").json
        assert task["config"]["classes"] == ["blue", "green", "red"]
        assert task["metrics"]["test"]["images"] == 12
        assert task["files"]["model.safetensors"] == (hub / "tasks/colours/model.safetensors").stat().st_size
    text = run("hub", "show", hub / "colours").out
    assert all(word in text for word in ("blue, green, red", "test_resnet", "epochs 3", "model.safetensors"))
    assert "it has colours" in refused("hub", "show", hub / "nothing")
    assert "neither a hub nor a task" in refused("hub", "show", hub.parent)


def test_tasks_are_copied_from_hubs_and_folders(run: Run, refused: Refused, hub: Path, other: Path) -> None:
    break_tasks(hub)
    copied = run("hub", "add", other, hub, "--json")
    assert (copied.code, [entry["task"] for entry in copied.json]) == (0, ["colours"])
    assert "already" in refused("hub", "add", other, hub / "colours")
    assert run("hub", "add", other, hub / "colours", "--task", "again").code == 0
    shutil.copytree(hub / "tasks" / "colours", hub.parent / "download")
    assert run("hub", "add", other, hub.parent / "download", "--task", "third").code == 0
    assert [entry["task"] for entry in run("hub", "list", other, "--json").json] == ["again", "colours", "third"]
    assert run("hub", "verify", other).code == 0
    assert "--task names one task" in refused("hub", "add", other, hub, "--task", "one")
    assert "has format 9" in refused("hub", "add", other, hub / "newer")
    assert "is a link" in refused("hub", "add", other, hub / "link")
    assert "cannot name a task" in refused("hub", "add", other, hub / "colours", "--task", "../x")
    assert "is not a hub" in refused("hub", "add", hub.parent / "nowhere", hub)


def test_replacing_and_removing_are_asked_for_by_name(run: Run, refused: Refused, hub: Path, other: Path) -> None:
    assert "has no task 'colours': it has none yet" in refused("hub", "replace", other, hub / "colours")
    run("hub", "add", other, hub / "colours")
    name = change_tensor(other / "tasks" / "colours")
    assert name in run("hub", "verify", other).out.replace("\n", "")
    assert run("hub", "replace", other, hub / "colours").code == 0
    assert run("hub", "diff", hub, other).code == 0
    assert "has no task 'shapes'" in refused("hub", "remove", other, "colours", "shapes")
    assert run("hub", "remove", other, "colours").code == 0
    assert run("hub", "list", other, "--json").json == []


def test_a_task_of_another_source_is_not_added(run: Run, refused: Refused, hub: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run("hub", "init", other, *TINY, "--seed", "7")
    assert refused("hub", "add", other, hub / "colours").count("sha256:") == 2


def test_verify_says_which_task_has_changed_and_where(run: Run, refused: Refused, hub: Path) -> None:
    shutil.copytree(hub / "tasks" / "colours", hub / "tasks" / "kept")
    assert run("hub", "verify", hub).code == 0
    name = change_tensor(hub / "tasks" / "colours")
    result = run("hub", "verify", hub, "--json")
    assert result.code == 1
    assert result.json["tasks"]["kept"] == {"state": "same", "logits": 0.0, "differences": []}
    changed = result.json["tasks"]["colours"]
    assert changed["state"] == "changed"
    assert changed["logits"] > 0.01
    assert [(one["file"], one["tensor"]) for one in changed["differences"]] == [
        ("model.safetensors", name),
        (None, None),
    ]
    assert run("hub", "verify", hub / "kept").code == 0
    assert "is not in a hub" in refused("hub", "verify", shutil.copytree(hub / "tasks/kept", hub.parent / "kept"))


def test_verify_tells_of_tasks_without_a_record_and_how_to_make_one(run: Run, hub: Path) -> None:
    (hub / "tasks" / "colours" / "fingerprint.json").unlink()
    result = run("hub", "verify", hub, "--json")
    assert (result.code, result.json["tasks"]["colours"]["state"]) == (0, "unrecorded")
    command = result.err.split("snow ")[1].split()
    assert run(*command).code == 0
    assert run("hub", "verify", hub, "--json").json["tasks"]["colours"]["state"] == "same"


def test_diff_says_what_is_where_and_what_differs(run: Run, refused: Refused, hub: Path, other: Path) -> None:
    tasks = hub / "tasks"
    for name in ("same", "changed"):
        shutil.copytree(tasks / "colours", tasks / name)
    run("hub", "add", other, hub)
    run("hub", "remove", other, "colours")
    shutil.copytree(other / "tasks" / "same", other / "tasks" / "theirs")
    name = change_tensor(tasks / "changed")
    config = json.loads((tasks / "changed" / "config.json").read_text())
    config["training"]["recipe"]["epochs"] = 99
    (tasks / "changed" / "config.json").write_text(json.dumps(config))
    (tasks / "changed" / "metrics.json").write_text("{}")
    result = run("hub", "diff", hub, other, "--json")
    found = result.json
    assert (result.code, found["source"], found["only_here"], found["only_there"]) == (1, [], ["colours"], ["theirs"])
    assert (found["same"], list(found["differ"])) == (["same"], ["changed"])
    changes = {(one["file"], one["key"]): one for one in found["differ"]["changed"]}
    assert changes["config.json", "training.recipe.epochs"].items() >= {"here": "99", "there": "3"}.items()
    assert changes["metrics.json", "test.images"].items() >= {"here": "", "there": "12"}.items()
    assert changes["model.safetensors", name]["largest"] == pytest.approx(1)
    assert {file for file, _ in changes} == {"config.json", "metrics.json", "model.safetensors"}
    assert run("hub", "diff", hub / "changed", other / "changed", "--json").json == found["differ"]["changed"]
    text = run("hub", "diff", hub, other).out
    assert all(
        line in text for line in ("only here: colours", "only there: theirs", "same: same", "changed/config.json")
    )
    assert "is a hub and the other is a task" in refused("hub", "diff", hub, other / "same")
    same = run("hub", "diff", hub, hub)
    assert (same.code, same.out) == (0, "same: changed, colours, same\n")


def test_diff_goes_on_where_a_file_cannot_be_read(run: Run, hub: Path, other: Path) -> None:
    run("hub", "add", other, hub)
    (hub / "tasks" / "colours" / "model.safetensors").write_bytes(b"")
    (hub / "tasks" / "colours" / "fingerprint.json").unlink()
    [change] = run("hub", "diff", hub / "colours", other / "colours", "--json").json
    assert (change["file"], change["key"], change["there"]) == ("model.safetensors", "", "there")
    assert "cannot be read" in change["here"]
