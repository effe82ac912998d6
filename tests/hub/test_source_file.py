"""The one source that a hub keeps, and everything that is not it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_hub import FULL, content, task
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Hub
from snow.source import Source, source_file


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
    torch.testing.assert_close(Hub.open(tmp_path / "hub").logits(images)["a"], hub.logits(images)["a"])


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
        with pytest.raises(SnowError, match="is not a hub: it (has no source.json|is a file, and a hub is a folder)"):
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
    with pytest.raises(SnowError, match="has changed: fingerprint") as caught:
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


def test_a_folder_in_a_hub_is_told_where_the_hub_is(make_source: Callable[..., Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", make_source())
    (hub.path / "tasks" / "one").mkdir(parents=True)
    for path in (hub.path / "tasks", hub.path / "tasks" / "one"):
        with pytest.raises(SnowError, match=f"is not a hub: it lies in the hub {re.escape(str(hub.path))}"):
            Hub.open(path)


def test_pointers_of_git_lfs_are_called_that(make_source: Callable[..., Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", make_source())
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    hub.add(task(hub.source, "one"))
    (hub.folder("one") / "model.safetensors").write_text(pointer)
    assert "run git lfs pull" in hub.broken()["one"]
    (hub.path / "source.safetensors").write_text(pointer)
    with pytest.raises(SnowError, match=r"source.safetensors is a Git LFS pointer"):
        Hub.open(hub.path)
