"""A task's folder: what is in it, what it refuses, and that it is there whole or not at all."""

from __future__ import annotations

import copy
import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from snow.errors import SnowError
from snow.hub import Artifact
from snow.hub import artifact as module
from snow.hub.artifact import versions
from snow.hub.task_files import CLASS_FORMAT, FORMAT, read_config
from snow.methods import METHODS
from snow.source import Source
from snow.store import check_name
from snow.store import files as whole

UNSAFE = [
    "../x",
    "",
    ".hidden",
    "a/b",
    "a" * 65,
    "..",
    "-a",
    "_a",
    "a b",
    "a\n",
    "ä",
    "a\x00",
    "C:\\x",
    "(source)",
    "a.",
]
UNSAFE += ["con", "NUL", "aux.txt", "Com1", "lpt9.safetensors"]


@pytest.fixture
def task(resnet: Source) -> Artifact:
    method = METHODS["snow"].build(resnet, 3).export_form()
    return Artifact("flowers", ("rose", "tulip", "äster"), method, resnet.description(), {"top1": 0.5}, {"epochs": 3})


@pytest.fixture
def saved(task: Artifact, tmp_path: Path) -> Path:
    return task.save(tmp_path / "tasks" / "flowers")


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values), "utf-8")


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in a JSON value; of a list the first item only."""
    items = values.items() if isinstance(values, dict) else list(enumerate(values))[:1] if type(values) is list else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def test_three_files_and_nothing_else(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["flowers"]
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "metrics.json", "model.safetensors"]
    assert saved.stat().st_mode & 0o777 == 0o755


def test_config_says_everything_needed(saved: Path, task: Artifact, resnet: Source) -> None:
    config = json.loads((saved / "config.json").read_text("utf-8"))
    assert config["format"] == CLASS_FORMAT
    assert (config["task"], config["classes"], config["method"]) == ("flowers", ["rose", "tulip", "äster"], "snow")
    assert config["source"]["fingerprint"] == resnet.fingerprint
    assert config["source"]["preprocessing"]["image_size"] == 64
    assert config["training"] == {"epochs": 3}
    assert config["versions"] == versions()
    assert set(config["versions"]) == {"python", "snow-cnn", "torch", "torchvision", "timm"}
    assert {level["tap"] for level in config["config"]["plan"]["levels"]} == task.method.taps
    assert json.loads((saved / "metrics.json").read_text()) == {"top1": 0.5}
    assert "äster" in (saved / "config.json").read_text("utf-8")


def test_only_what_was_learned_is_saved(saved: Path, task: Artifact) -> None:
    with safe_open(saved / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
    assert shapes == {name: tuple(value.shape) for name, value in task.method.state_dict().items()}
    assert task.size == sum(value.nbytes for value in load_file(saved / "model.safetensors").values())
    assert not any(name.startswith("source") for name in shapes)


def test_what_comes_back_is_what_was_saved(saved: Path, task: Artifact, resnet: Source) -> None:
    loaded = Artifact.load(saved, resnet)
    assert (loaded.name, loaded.classes, loaded.source) == (task.name, task.classes, task.source)
    assert (loaded.metrics, loaded.training) == (task.metrics, task.training)
    assert not loaded.method.training
    assert all(torch.equal(value, task.method.state_dict()[k]) for k, value in loaded.method.state_dict().items())


def test_tensors_lie_where_torch_would_put_them(saved: Path, resnet: Source) -> None:
    """At other addresses some kernels sum up in another order, and answers differ in their last bits."""
    values = [value for value in Artifact.load(saved, resnet).method.state_dict().values() if value.numel()]
    assert len(values) > 10
    assert all(value.data_ptr() % 64 == 0 for value in values)


def test_a_foreign_source_is_refused_with_both_fingerprints(saved: Path, make_source: Callable[..., Source]) -> None:
    for options, differing in (({"seed": 1}, "weights"), ({"image_size": 96}, "preprocessing")):
        other = make_source(**options)
        with pytest.raises(SnowError, match="flowers was trained on another source") as caught:
            Artifact.load(saved, other)
        assert read_config(saved)["source"]["fingerprint"] in str(caught.value)
        assert other.fingerprint in str(caught.value)
        assert differing in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(saved: Path, resnet: Source) -> None:
    change(saved, format=FORMAT + 1, new_key={"a": 1})
    with pytest.raises(SnowError, match=f"has format {FORMAT + 1}, newer than this version reads .{FORMAT}.: upgrade"):
        Artifact.load(saved, resnet)


def test_an_unknown_method_is_refused(saved: Path, resnet: Source) -> None:
    change(saved, method="telepathy")
    with pytest.raises(SnowError, match="unknown method 'telepathy': there are snow"):
        Artifact.load(saved, resnet)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, saved: Path, resnet: Source) -> None:
    (saved / name).unlink()
    with pytest.raises(SnowError, match=name):
        Artifact.load(saved, resnet)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"null", b"\xff\xfe", b'{"a": 1', b'{"format": 1}'])
def test_bad_json_is_named(content: bytes, saved: Path, resnet: Source) -> None:
    (saved / "config.json").write_bytes(content)
    with pytest.raises(SnowError, match=r"config.json") as caught:
        Artifact.load(saved, resnet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_damaged_tensors_are_named(kept: int, saved: Path, resnet: Source) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SnowError, match=r"task flowers is damaged: .*model.safetensors") as caught:
        Artifact.load(saved, resnet)
    assert "\n" not in str(caught.value)


def test_tensors_of_another_task_are_refused(saved: Path, resnet: Source) -> None:
    read = load_file(saved / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in read.items()}  # they may lie in the file that is written here
    name = next(name for name in tensors if tensors[name].ndim == 4)
    for changed in (
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"extra": torch.ones(1)},
        tensors | {name: torch.ones(1)},
    ):
        save_file(changed, saved / "model.safetensors")
        with pytest.raises(SnowError, match="flowers is damaged"):
            Artifact.load(saved, resnet)


@pytest.mark.parametrize("junk", [None, -1, 0.5, "zz", [], {}, [[]]])
def test_no_junk_in_a_config_is_a_traceback(junk: object, saved: Path, resnet: Source) -> None:
    """Each value in turn is replaced: the task loads as before or is refused in one line."""
    config = json.loads((saved / "config.json").read_text("utf-8"))
    lines: list[str] = []
    for path in leaves(config):
        broken = copy.deepcopy(config)
        at = broken
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = junk
        (saved / "config.json").write_text(json.dumps(broken), "utf-8")
        try:
            Artifact.load(saved, resnet)
        except SnowError as error:
            lines.append(str(error))
    assert len(lines) > 20
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused(name: str, task: Artifact) -> None:
    with pytest.raises(SnowError, match="cannot name a task"):
        check_name(name)
    with pytest.raises(SnowError, match="cannot name a task"):
        Artifact(name, task.classes, task.method, task.source)


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "a" * 64, "cars-196.v2", "console", "a-", "b_"])
def test_safe_names_are_kept(name: str) -> None:
    assert check_name(name) == name


def test_a_config_cannot_smuggle_in_an_unsafe_name(saved: Path, resnet: Source) -> None:
    change(saved, task="../../etc")
    with pytest.raises(SnowError, match="cannot name a task"):
        Artifact.load(saved, resnet)


def test_classes_must_match_the_answer(task: Artifact) -> None:
    with pytest.raises(SnowError, match="flowers has 2 classes, but its method has 3"):
        Artifact("flowers", ("a", "b"), task.method, task.source)


def test_an_existing_folder_is_never_overwritten(saved: Path, task: Artifact) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(SnowError, match="is there already"):
        task.save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize("failing", ["save_file", "write_json"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_leaves_nothing(
    failing: str, error: Exception, task: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(module, failing)

    def fail(*args: Any) -> None:
        real(*args)  # half of it is on the disk when the disk is full
        raise error

    monkeypatch.setattr(module, failing, fail)
    with pytest.raises(SnowError, match="flowers cannot be written: .*No space left on device"):
        task.save(tmp_path / "flowers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_nothing(
    error: type[BaseException], task: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(module, "write_json", fail)
    with pytest.raises(error):
        task.save(tmp_path / "flowers")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_seen_before_it_is_whole(task: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is on the disk before the folder has its name, and the folder gets it in one step."""
    seen: list[bool] = []
    monkeypatch.setattr(whole.os, "fsync", lambda _: seen.append((tmp_path / "flowers").exists()))
    real, folders = module.save_file, []

    def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        real(tensors, path)
        folders.append(path.parent.stat().st_ino)

    monkeypatch.setattr(module, "save_file", save)
    task.save(tmp_path / "flowers")
    assert seen == [False] * 4 + [True]  # three files and their folder, then its name
    assert folders == [(tmp_path / "flowers").stat().st_ino]


def test_a_place_that_cannot_be_written_is_one_line(task: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SnowError, match="cannot be written"):
        task.save(tmp_path / "file" / "flowers")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_can_be_moved_and_renamed(saved: Path, resnet: Source, tmp_path: Path) -> None:
    shutil.move(saved, tmp_path / "elsewhere")
    assert Artifact.load(str(tmp_path / "elsewhere"), resnet).name == "flowers"
