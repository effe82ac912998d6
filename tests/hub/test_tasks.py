"""Tasks of a hub: added, listed, replaced and removed, also while the disk is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_hub import FULL, content, task
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Hub
from snow.hub import artifact as artifact_module
from snow.source import Source


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
    with pytest.raises(SnowError, match="trained on another source"):
        hub.add(task(other, "a"))
    assert hub.names() == []
    task(other, "a").save(hub.path / "tasks" / "a")
    with pytest.raises(SnowError, match="another source") as caught:
        hub.task("a")
    assert other.fingerprint in str(caught.value)
    assert hub.source.fingerprint in str(caught.value)
