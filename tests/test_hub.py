"""The hub: one source, any number of tasks, and what goes wrong on a disk."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from snow import artifact as artifact_module
from snow import source_file
from snow.answer import SOURCE_HEAD
from snow.artifact import Artifact
from snow.data import decode, eval_transform
from snow.errors import SnowError
from snow.hub import Hub
from snow.methods import METHODS
from snow.source import Source

CLASSES = ("a", "b", "c")
FULL = [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")]


@pytest.fixture
def hub(resnet: Source, tmp_path: Path) -> Hub:
    return Hub.create(tmp_path / "hub", resnet)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def task(source: Source, name: str, seed: int = 0, method: str = "fo") -> Artifact:
    """One whose answers depend on `seed`."""
    torch.manual_seed(seed)
    learned = METHODS[method].build(source, len(CLASSES)).served()
    with torch.no_grad():
        for value in learned.parameters():
            value.add_(torch.randn_like(value))
    return Artifact(name, CLASSES, learned, source.description())


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_new_hub_is_empty(hub: Hub, images: Tensor) -> None:
    assert hub.names() == []
    assert hub.logits(images) == {}
    assert hub.predict(images) == [{}, {}, {}]
    with pytest.raises(SnowError, match="has no task 'a': it has none yet"):
        hub.task("a")


def test_tasks_are_added_listed_and_removed(hub: Hub, resnet: Source) -> None:
    for name in ("b", "a", "C.1"):
        assert hub.add(task(resnet, name)) == hub.path / "tasks" / name
    assert hub.names() == ["C.1", "a", "b"]
    hub.remove("a")
    assert hub.names() == ["C.1", "b"]
    assert sorted(path.name for path in (hub.path / "tasks").iterdir()) == ["C.1", "b"]
    for gone in ("a", "never"):
        with pytest.raises(SnowError, match=f"has no task '{gone}': it has C.1, b"):
            hub.remove(gone)
        with pytest.raises(SnowError, match=f"has no task '{gone}': it has C.1, b"):
            hub.task(gone)


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a" * 65, ".."])
def test_unsafe_names_touch_nothing(hub: Hub, name: str) -> None:
    before = content(hub.path.parent)
    for use in (hub.task, hub.remove, hub.folder):
        with pytest.raises(SnowError, match="cannot name a task"):
            use(name)
    assert content(hub.path.parent) == before


def test_a_taken_name_is_refused_unless_replaced(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a", 1))
    old = hub.logits(images)["a"]
    with pytest.raises(SnowError, match="is there already"):
        hub.add(task(resnet, "a", 2))
    assert torch.equal(hub.logits(images)["a"], old)
    new = task(resnet, "a", 2)
    assert hub.add(new, replace=True) == hub.path / "tasks" / "a"
    assert torch.equal(hub.logits(images)["a"], new.method(resnet(images)))
    assert not torch.equal(hub.logits(images)["a"], old)
    assert [path.name for path in (hub.path / "tasks").iterdir()] == ["a"]
    hub.add(task(resnet, "b"), replace=True)
    assert hub.names() == ["a", "b"]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_while_replacing_keeps_the_old_task(
    hub: Hub, resnet: Source, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(task(resnet, "a", 1))
    before = content(hub.path)

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(artifact_module, "save_file", fail)
    for name in ("a", "b"):
        with pytest.raises(SnowError, match="cannot be written: .*No space left on device"):
            hub.add(task(resnet, name, 2), replace=True)
    assert content(hub.path) == before
    assert hub.names() == ["a"]
    assert [path.name for path in (hub.path / "tasks").iterdir()] == ["a"]


def test_what_a_killed_run_left_is_no_task(hub: Hub, resnet: Source) -> None:
    hub.add(task(resnet, "a"))
    for left in (".a.removed", ".a.new", ".b.xyz"):
        shutil.copytree(hub.path / "tasks/a", hub.path / "tasks" / left)
    assert hub.names() == ["a"]
    hub.add(task(resnet, "a", 1), replace=True)
    hub.remove("a")
    assert hub.names() == []
    assert list((hub.path / "tasks").iterdir()) == [hub.path / "tasks/.b.xyz"]


def test_a_task_of_another_source_is_refused(hub: Hub, make_source: Callable[..., Source]) -> None:
    other = make_source(seed=1)
    with pytest.raises(SnowError, match="learned on another source"):
        hub.add(task(other, "a"))
    assert hub.names() == []
    task(other, "a").save(hub.path / "tasks" / "a")
    with pytest.raises(SnowError, match="another source") as caught:
        hub.task("a")
    assert other.fingerprint in str(caught.value)
    assert hub.source.fingerprint in str(caught.value)


def test_another_source_for_the_same_folder_is_refused(hub: Hub, make_source: Callable[..., Source]) -> None:
    before = content(hub.path)
    for other in (make_source(seed=1), make_source("test_convnext"), make_source(image_size=96)):
        with pytest.raises(SnowError, match="has another source") as caught:
            Hub.create(hub.path, other)
        assert other.fingerprint in str(caught.value)
        assert hub.source.fingerprint in str(caught.value)
    assert content(hub.path) == before


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_a_hub_of_a_random_source_reopens_with_it(
    name: str, make_source: Callable[..., Source], tmp_path: Path, images: Tensor
) -> None:
    source = make_source(name, seed=5)
    hub = Hub.create(tmp_path / "hub", source)
    hub.add(task(source, "a", method="snow"))
    reopened = Hub.open(str(tmp_path / "hub"))
    assert reopened.source.fingerprint == source.fingerprint
    assert reopened.source.description() == source.description()
    assert torch.equal(reopened.logits(images)["a"], hub.logits(images)["a"])
    assert Hub.create(tmp_path / "hub", source).names() == ["a"]


def test_a_hub_keeps_taps_chosen_by_hand(make_source: Callable[..., Source], tmp_path: Path, images: Tensor) -> None:
    """Also one that is not found by itself: a task says what it reads."""
    source = make_source(taps=["layer2.0.conv2", "layer3.*"])
    hub = Hub.create(tmp_path / "hub", source)
    hub.add(task(source, "a", method="snow"))
    assert hub.task("a").method.taps == {"layer2.0.conv2", "layer3.0"} - {source.taps[-1].name}
    assert torch.equal(Hub.open(tmp_path / "hub").logits(images)["a"], hub.logits(images)["a"])


def test_a_source_laid_out_otherwise_is_kept(make_source: Callable[..., Source], tmp_path: Path) -> None:
    source = make_source().to(memory_format=torch.channels_last)
    Hub.create(tmp_path / "hub", source)
    assert Hub.open(tmp_path / "hub").source.fingerprint == make_source().fingerprint


def test_a_hub_of_the_embedded_source_stores_no_weights(tmp_path: Path) -> None:
    source = Source.embedded(64)
    Hub.create(tmp_path / "hub", source)
    assert sorted(content(tmp_path / "hub")) == [".lock", "source.json"]
    assert Hub.open(tmp_path / "hub").source.fingerprint == source.fingerprint


def test_a_path_that_is_a_file_is_one_line(resnet: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "hub"):
        with pytest.raises(SnowError, match="cannot be made"):
            Hub.create(path, resnet)
        with pytest.raises(SnowError, match="is not a hub: it has no source.json"):
            Hub.open(path)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(SnowError, match="is not a hub"):
        Hub.open(tmp_path / "nowhere")


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_leaves_no_hub(
    resnet: Source, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(source_file, "save_file", fail)
    with pytest.raises(SnowError, match="cannot be made: .*No space left on device"):
        Hub.create(tmp_path / "hub", resnet)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("x")
    with pytest.raises(SnowError, match="cannot be made"):
        Hub.create(tmp_path / "mine", resnet)
    assert (tmp_path / "mine/notes").read_text() == "x"


def test_a_hub_without_its_stored_weights_says_so(hub: Hub) -> None:
    """It must not go and download others."""
    (hub.path / "source.safetensors").unlink()
    with pytest.raises(SnowError, match=r"damaged: .*source.safetensors is missing"):
        Hub.open(hub.path)


@pytest.mark.parametrize("file", ["source.json", "source.safetensors"])
def test_a_source_outside_of_the_hub_is_refused(hub: Hub, file: str) -> None:
    (hub.path / file).rename(hub.path.parent / file)
    (hub.path / file).symlink_to(hub.path.parent / file)
    with pytest.raises(SnowError, match=f"{file} is a link"):
        Hub.open(hub.path)


def test_a_changed_source_is_refused_with_both_fingerprints(hub: Hub, make_source: Callable[..., Source]) -> None:
    other = make_source(seed=3)
    Hub.create(hub.path.parent / "other", other)
    shutil.copy(hub.path.parent / "other/source.safetensors", hub.path / "source.safetensors")
    with pytest.raises(SnowError, match="is not what it was") as caught:
        Hub.open(hub.path)
    assert other.fingerprint in str(caught.value)
    assert hub.source.fingerprint in str(caught.value)


@pytest.mark.parametrize("key", ["architecture", "weights", "fingerprint", "preprocessing"])
@pytest.mark.parametrize("junk", ["missing", None, 3, [], "x", {}])
def test_a_damaged_description_is_one_line(hub: Hub, key: str, junk: object) -> None:
    described = json.loads((hub.path / "source.json").read_text())
    described[key] = junk
    if junk == "missing":
        del described[key]
    (hub.path / "source.json").write_text(json.dumps(described))
    if (key, junk) == ("weights", "x"):  # no more than a label
        assert Hub.open(hub.path).source.fingerprint == hub.source.fingerprint
        return
    with pytest.raises(SnowError) as caught:
        Hub.open(hub.path)
    assert "\n" not in str(caught.value)


def _truncated(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def _newer(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "format": 99}))


def _other_source(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["source"]["fingerprint"] = "sha256:0"
    (folder / "config.json").write_text(json.dumps(config))


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _pickled(folder: Path) -> None:
    torch.save({"weight": torch.ones(3)}, folder / "model.safetensors")


def _linked(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def _misnamed(folder: Path) -> None:
    folder.rename(folder.parent / "ä b")


def _nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_truncated, "task b is damaged"),
        (_newer, "newer than this version reads"),
        (_other_source, "learned on another source"),
        (_emptied, "config.json cannot be read"),
        (_pickled, "task b is damaged"),
        (_linked, "is a link"),
        (_misnamed, "cannot name a task"),
        (_nested, "config.json cannot be read"),
    ],
)
def test_a_task_that_cannot_answer_is_named_once_and_left_out(
    hub: Hub,
    resnet: Source,
    images: Tensor,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    for name in ("a", "b", "c"):
        hub.add(task(resnet, name))
    expected = hub.logits(images, ["a", "c"])
    damage(hub.folder("b"))
    again = Hub.open(hub.path)
    [broken] = set(again.names()) - {"a", "c"}
    assert {name: told in why for name, why in again.broken().items()} == {broken: True}
    logits = again.logits(images)
    assert list(logits) == sorted(expected)
    assert all(torch.equal(logits[name], expected[name]) for name in expected)
    assert [set(answers) for answers in again.predict(images)] == [{"a", "c"}] * 3
    [record] = caplog.records
    assert record.getMessage().startswith(f"task {broken} of hub {hub.path} is left out: ")
    assert told in record.getMessage()
    with pytest.raises(SnowError, match=told):
        again.logits(images, ["a", broken])
    if broken == "b":
        again.add(task(resnet, "b", 1), replace=True)
        assert list(again.logits(images)) == ["a", "b", "c"]
        assert again.broken() == {}


def test_a_copied_folder_is_a_task_of_its_own(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    shutil.copytree(hub.path / "tasks/a", hub.path / "tasks/b")
    logits = hub.logits(images)
    assert list(logits) == ["a", "b"]
    assert torch.equal(logits["a"], logits["b"])
    assert [answer["b"].task for answer in hub.predict(images)] == ["b"] * 3
    assert hub.task("b").name == "b"


def test_one_pass_answers_all_tasks(hub: Hub, resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        hub.add(task(resnet, name, method="snow"))
    passes: list[int] = []
    monkeypatch.setattr(resnet, "_forward_pre_hooks", {0: lambda *_: passes.append(1)})
    hub.logits(images)
    assert passes == [1]


def test_predictions_are_sorted_probabilities(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    for answer, logits in zip(hub.predict(images), hub.logits(images)["a"], strict=True):
        one = answer["a"]
        assert one.task == "a"
        assert sorted(one.classes) == ["a", "b", "c"]
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert sum(one.probabilities) == pytest.approx(1)
        assert one.classes[0] == CLASSES[logits.argmax()]
        assert one.probabilities[0] == pytest.approx(logits.softmax(0).max().item())


def test_files_are_predicted_as_their_pixels(
    hub: Hub, resnet: Source, write_folder: Callable[..., Path], tmp_path: Path
) -> None:
    hub.add(task(resnet, "a", method="snow"))
    folder = write_folder(tmp_path / "pictures", train=1, test=0, size=80)
    files = [folder / name / f"{index}.png" for index, name in enumerate(("blue", "green", "red"))]
    pixels = torch.stack([eval_transform(resnet.preprocessing)(decode(path)) for path in files])
    assert hub.predict(files) == hub.predict(pixels)
    assert [answer["a"].classes for answer in hub.predict([str(files[1])])] == [hub.predict(pixels)[1]["a"].classes]
    with pytest.raises(SnowError, match=r"nowhere.png"):
        hub.predict([files[0], tmp_path / "nowhere.png"])


def test_the_source_s_own_head_answers_beside_tasks(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    logits = hub.logits(images, ["a", SOURCE_HEAD])
    assert torch.equal(logits[SOURCE_HEAD], resnet(images).logits)
    best = hub.predict(images, [SOURCE_HEAD])[0][SOURCE_HEAD]
    assert best.classes[0] == str(resnet(images).logits[0].argmax().item())
    assert SOURCE_HEAD not in hub.logits(images)


def test_what_another_process_has_done_is_seen_after_a_refresh(hub: Hub, resnet: Source, images: Tensor) -> None:
    for name in ("a", "b", "c", "d"):
        hub.add(task(resnet, name, 1))
    before = hub.logits(images)
    assert hub.refresh() == []
    other, new = Hub(hub.path, resnet), task(resnet, "a", 2)
    other.add(new, replace=True)
    other.remove("b")
    other.add(task(resnet, "e", 1))
    weights = hub.folder("c") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert torch.equal(hub.logits(images, ["a"])["a"], before["a"])
    assert hub.refresh() == ["a", "b", "c"]
    assert hub.refresh() == []
    after = hub.logits(images)
    assert set(after) == {"a", "d", "e"}
    assert torch.equal(after["a"], new.method(resnet(images)))
    assert torch.equal(after["d"], before["d"])
    assert set(hub.broken()) == {"c"}


def test_a_damaged_task_that_is_mended_answers_after_a_refresh(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a", 1))
    config = hub.folder("a") / "config.json"
    content = config.read_bytes()
    config.write_bytes(b"{")
    hub = Hub(hub.path, resnet)
    assert hub.logits(images) == {}
    config.write_bytes(content)
    assert hub.logits(images) == {}
    assert hub.refresh() == ["a"]
    assert set(hub.logits(images)) == {"a"}
