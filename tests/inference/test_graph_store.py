"""A calibrated source on disk: read where it is whole and of this source, and made anew elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from snow.inference.graph_store import GraphStore

pytest.importorskip("onnxruntime")


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    store = GraphStore(tmp_path / "prepared", "sha256:a")
    assert store.load(["x"]) is None
    store.save(["x"], b"graph")
    store.save(["x", "y"], b"other")
    assert (store.load(["x"]), store.load(["x", "y"])) == (b"graph", b"other")


def test_that_of_another_source_is_not_read_and_goes(tmp_path: Path) -> None:
    GraphStore(tmp_path, "sha256:a").save(["x"], b"graph")
    other = GraphStore(tmp_path, "sha256:b")
    assert other.load(["x"]) is None
    other.save(["x"], b"new")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: old[:40] + b"?" + old[41:], lambda _old: b""])
def test_a_damaged_one_is_not_read(tmp_path: Path, damage) -> None:  # noqa: ANN001
    store = GraphStore(tmp_path, "sha256:a")
    store.save(["x"], bytes(range(100)))
    [file] = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert store.load(["x"]) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    GraphStore(tmp_path / "file", "sha256:a").save(["x"], b"graph")
