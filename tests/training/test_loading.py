from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_dataset

from snow.data import Pictures
from snow.errors import NoSpaceError, SnowError
from snow.training.loader import DeviceLoader, _collate_arrays, sequential_batches

CPU = torch.device("cpu")


def test_processes_share_pictures_sequential_batches() -> None:
    assert sequential_batches(range(7), 2) == [[0, 1], [2, 3], [4, 5], [6]]
    assert sequential_batches(range(7), 2, rank=1, processes=2) == [[1, 3], [5]]
    assert sequential_batches([9, 8, 7], 5) == [[9, 8, 7]]
    assert sequential_batches([], 5) == []


def test_batches() -> None:
    pictures = tiny_dataset(train=5, tasks=2).train
    batches = list(DeviceLoader(pictures, sequential_batches(range(5), 2), 0, CPU))
    assert [tuple(images.shape) for images, _ in batches] == [(2, 3, 32, 32), (2, 3, 32, 32), (1, 3, 32, 32)]
    assert {images.dtype for images, _ in batches} == {torch.uint8}
    assert torch.equal(torch.cat([labels for _, labels in batches]), pictures.labels)


def test_workers_start_once_and_end_when_their_parent_says_so() -> None:
    before = set(multiprocessing.active_children())
    loading = DeviceLoader(tiny_dataset().train, sequential_batches(range(24), 4), 1, CPU)
    assert len(list(loading)) == 6
    (worker,) = set(multiprocessing.active_children()) - before
    assert len(list(loading)) == 6
    assert set(multiprocessing.active_children()) - before == {worker}
    worker.terminate()
    worker.join(120)
    assert worker.exitcode == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named_in_one_line(workers: int, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_text("no picture")
    pictures = Pictures([tmp_path / "cat.jpg"], torch.tensor([0]))
    with pytest.raises(SnowError, match=r"cat\.jpg") as caught:
        list(DeviceLoader(pictures, [[0]], workers, CPU))
    assert str(caught.value).count("cat.jpg") == 1
    assert "Traceback" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_pass_that_is_left_ends_its_processes_and_another_has_new_ones() -> None:
    loading = DeviceLoader(tiny_dataset().train, sequential_batches(range(24), 4), 2, CPU)
    passing = iter(loading)
    next(passing)
    assert len(multiprocessing.active_children()) == 2
    passing.close()
    assert not multiprocessing.active_children()
    assert len(list(loading)) == 6


def test_a_small_shared_memory_is_gone_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: /dev/shm of 1 kB, and batches that are larger."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1024))
    pictures, keys = tiny_dataset().train, sequential_batches(range(24), 12)
    loader = DeviceLoader(pictures, keys, 2, CPU)
    assert loader._loader.collate_fn is _collate_arrays
    for (images, labels), (expected, numbers) in zip(loader, DeviceLoader(pictures, keys, 0, CPU), strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, numbers)


@pytest.mark.parametrize(
    "message",
    [
        "unable to allocate shared memory(shm) for file </torch_1>",
        "worker (pid 1) is killed by signal: Bus error",
        "unable to resize file </torch_1> to the right size: File too large (27)",
        "received 0 items of ancdata",
    ],
)
def test_a_shared_memory_that_others_fill_is_one_line(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError(f"Caught RuntimeError in a worker.\nTraceback: {message}")

    loader = DeviceLoader(tiny_dataset().train, [[0]], 0, CPU)
    monkeypatch.setattr(type(loader._loader), "__iter__", full)
    with pytest.raises(
        NoSpaceError, match=r"(shared memory .* is full|not open as many files).*: load pictures with fewer"
    ) as caught:
        list(loader)
    assert "\n" not in str(caught.value)
