"""The selection over time: on disk and back, and as a summary."""

from __future__ import annotations

import errno
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact
from snow.hub.task_files import read_config
from snow.methods import METHODS
from snow.source import FINAL, Source
from snow.subscribe import SelectionHistory

COMPRESSED = torch.tensor(list(zlib.compress(bytes(3))), dtype=torch.uint8)
"""Three bytes, which are not two rows of anything."""


def masks(*rows: str) -> Tensor:
    """Make masks from rows of marks; `x` is selected."""
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


@pytest.fixture
def history() -> SelectionHistory:
    selected = {"block1": masks("xx...", "xx...", "x.x..", "..xx."), FINAL: masks("xx.", "xx.", "xx.", "xx.")}
    return SelectionHistory(torch.tensor([0, 5, 10, 20]), 10, selected)


def test_the_summary_of_a_tap(history: SelectionHistory) -> None:
    assert history.summary("block1") == {
        "channels": 5,
        "taken": 2,
        "ever": 4,
        "from_start": 0,
        "settled": 20,
        "newcomers": [0, 1, 1],
        "chosen": [2, 3],
    }
    constant = history.summary(FINAL)
    assert (constant["ever"], constant["from_start"], constant["settled"], constant["newcomers"]) == (
        2,
        2,
        0,
        [0, 0, 0],
    )


@given(moments=st.integers(1, 30), channels=st.integers(1, 20), seed=st.integers(0, 99))
def test_on_disk_and_back(tmp_path_factory: pytest.TempPathFactory, moments: int, channels: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("choices") / "choice.safetensors"
    generator = torch.Generator().manual_seed(seed)
    selected = {tap: torch.rand(moments, channels, generator=generator) < 0.3 for tap in ("a.b", "file", FINAL)}
    saved = SelectionHistory(torch.arange(moments) * 3, 7, selected)
    saved.save(path)
    loaded = SelectionHistory.load(path)
    assert torch.equal(loaded.steps, saved.steps)
    assert (loaded.batches, list(loaded.masks)) == (7, list(selected))
    assert all(torch.equal(loaded.masks[tap], mask) for tap, mask in selected.items())


def test_a_stable_selection_is_small_on_disk(tmp_path: Path) -> None:
    row = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) < 1 / 8
    SelectionHistory(torch.arange(200), 10, {"map": row.repeat(200, 1)}).save(tmp_path / "choice.safetensors")
    assert (tmp_path / "choice.safetensors").stat().st_size < 200 * 10_000 / 8 / 10


def test_some_of_the_taps(history: SelectionHistory) -> None:
    assert list(history.only(["block*"]).masks) == ["block1"]
    assert list(history.only([FINAL, "block1"]).masks) == ["block1", FINAL]
    with pytest.raises(SnowError, match=r"at 'stage\*': there are block1, \(final\)"):
        history.only(["block1", "stage*"])


@pytest.mark.parametrize("kept", [0, 10, 100, -5])
def test_a_damaged_file_is_named(history: SelectionHistory, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "choice.safetensors"
    history.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SnowError, match=r"choice.safetensors cannot be read") as caught:
        SelectionHistory.load(path)
    assert "\n" not in str(caught.value)


def test_no_junk_in_the_file_is_a_traceback(history: SelectionHistory, tmp_path: Path) -> None:
    path = tmp_path / "choice.safetensors"
    history.save(path)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with suppress(SnowError):
            SelectionHistory.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"steps": torch.arange(3)},
        {"batches": torch.tensor(1)},
        {"steps": torch.arange(3), "batches": torch.tensor(0)},
        {"steps": torch.arange(0), "batches": torch.tensor(1)},
        {"steps": torch.zeros(2, 2), "batches": torch.tensor(1)},
        {"steps": torch.arange(3), "batches": torch.arange(2)},
        {"steps": torch.arange(3), "batches": torch.tensor(1), "0.a": torch.zeros(4, dtype=torch.uint8)},
        {"steps": torch.arange(9), "batches": torch.tensor(1), "0.a": COMPRESSED},
        {"steps": torch.arange(8), "batches": torch.tensor(1), "a": COMPRESSED},
    ],
)
def test_another_file_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "choice.safetensors"
    save_file(tensors, path)
    with pytest.raises(SnowError, match=r"choice.safetensors cannot be read"):
        SelectionHistory.load(path)


def test_it_is_kept_beside_the_task_which_answers_without_it(
    history: SelectionHistory, resnet: Source, tmp_path: Path
) -> None:
    method = METHODS["snow"].build(resnet, 2).export_form()
    folder = Artifact("a", ("x", "y"), method, resnet.description(), selection_history=history).save(tmp_path / "a")
    assert sorted(path.name for path in folder.iterdir()) == [
        "choice.safetensors",
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    assert SelectionHistory.load(folder / "choice.safetensors").batches == 10
    (folder / "choice.safetensors").unlink()
    assert Artifact.load(folder, resnet).classes == ("x", "y")
    assert read_config(folder)["task"] == "a"


def test_a_full_disk_leaves_nothing(
    history: SelectionHistory, resnet: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    method = METHODS["snow"].build(resnet, 2).export_form()
    with pytest.raises(SnowError, match="cannot be written: .*No space left"):
        Artifact("a", ("x", "y"), method, resnet.description(), selection_history=history).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
