from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from snow.data import Pictures, open_dataset, train_transform
from snow.errors import SnowError
from snow.source import Preprocessing


def noise(count: int) -> Pictures:
    images = [Image.effect_noise((40, 30), 90) for _ in range(count)]
    return Pictures([partial(Image.Image.copy, image) for image in images], torch.arange(count) % 2)


def unread(labels: torch.Tensor) -> Pictures:
    return Pictures([Path(f"{number}.jpg") for number in range(len(labels))], labels)


def test_an_item_is_a_file_or_a_callable(tmp_path, draw):
    path = draw(tmp_path / "a.png")
    pictures = Pictures([path, lambda: Image.open(path)], torch.tensor([[1, -1], [0, 2]]))
    (first, labels), (second, _) = pictures[0], pictures[1]
    assert torch.equal(first, second)
    assert labels.tolist() == [1, -1]
    assert labels.dtype == torch.int64


def test_one_task_may_have_flat_labels():
    assert noise(3).labels.tolist() == [[0], [1], [0]]


def test_every_picture_needs_a_label():
    with pytest.raises(SnowError, match="1 pictures and 2 labels"):
        Pictures([Path("a.jpg")], torch.zeros(2))


def test_a_bad_picture_is_named_when_its_turn_comes(tmp_path):
    def lost() -> Image.Image:
        raise OSError("no such\nrecord")

    pictures = Pictures([tmp_path / "gone.jpg", lost], torch.zeros(2))
    with pytest.raises(SnowError, match=r"gone\.jpg: does not exist"):
        pictures[0]
    with pytest.raises(SnowError, match=r"lost.*: cannot be read \(no such record\)"):
        pictures[1]


def test_augmentation_depends_on_its_seed_alone():
    pictures = noise(1).with_transform(train_transform(Preprocessing(image_size=16), "trivial"))
    torch.manual_seed(0)
    first = pictures[0, 5][0]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(pictures[0, 5][0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert any(not torch.equal(pictures[0, seed][0], first) for seed in range(6, 10))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_any_number_of_workers_gives_the_same_batches():
    pictures = noise(8).with_transform(train_transform(Preprocessing(image_size=16), "crop"))
    keys = [(index, 100 - index) for index in (3, 1, 7, 0, 2, 6)]
    alone, helped = (list(DataLoader(pictures, batch_size=4, sampler=keys, num_workers=workers)) for workers in (0, 2))
    for (images, labels), (others, other_labels) in zip(alone, helped, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)
    assert alone[0][0].shape == (4, 3, 16, 16)
    assert alone[0][1].flatten().tolist() == [1, 1, 1, 0]


def test_a_subset_and_another_transform_leave_the_rest_alone():
    pictures = noise(5)
    part = pictures.with_transform(lambda pixels: pixels * 0).subset([4, 1])
    assert part.labels.tolist() == [[0], [1]]
    assert part.items == (pictures.items[4], pictures.items[1])
    assert part[0][0].max() == 0
    assert pictures[4][0].max() > 0
    assert len(pictures.subset([])) == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_is_stratified_and_complete(labels, fraction, seed):
    pictures = unread(torch.tensor(labels))
    rest, part = pictures.split(fraction, seed)
    assert sorted(rest.items + part.items) == sorted(pictures.items)
    for label in set(labels):
        count, held = labels.count(label), part.labels.eq(label).sum().item()
        assert abs(held - fraction * count) <= 1
        assert held < count
        assert held > 0 or count == 1
    again = pictures.split(fraction, seed)
    assert (rest.items, part.items) == (again[0].items, again[1].items)


@given(st.data())
def test_a_split_keeps_every_class_of_every_task_for_training(data):
    rows = data.draw(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 4)), min_size=1, max_size=40))
    rest, _ = unread(torch.tensor(rows)).split(0.5, seed=0)
    for task in range(2):
        assert {row[task] for row in rows} - {-1} <= set(rest.labels[:, task].tolist())


def test_another_seed_splits_otherwise():
    pictures = unread(torch.zeros(40))
    assert pictures.split(0.5, seed=0)[0].items != pictures.split(0.5, seed=1)[0].items


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_a_split_needs_two_parts(fraction):
    with pytest.raises(SnowError, match="between 0 and 1"):
        noise(4).split(fraction, seed=0)


def test_files_keep_their_place_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), 90).save(tmp_path / "pictures" / name)
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("pictures")
    monkeypatch.chdir("/")
    assert dataset.train[0][0].shape == (3, 30, 40)
