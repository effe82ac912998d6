"""Which pictures are held out: by content, so that what is added, broken or renamed moves no other one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snow.data import Dataset, Pictures, SplitRecord, Task, open_dataset
from snow.data.split import MOST_TRAINED, hold_out
from snow.data.task import ContentDigests
from snow.errors import SnowError


def digests(count: int) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in range(count)]


def chosen(dataset: Dataset) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in dataset.test.items}


@pytest.fixture
def flat(tmp_path: Path, draw) -> Path:
    """cat/ and dog/ with 20 pictures each."""
    for number in range(40):
        draw(tmp_path / "flat" / ("cat", "dog")[number % 2] / f"{number:02d}.png", seed=number)
    return tmp_path / "flat"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_each_class_gives_its_fraction(labels, fraction, seed):
    held = hold_out(torch.tensor(labels)[:, None], digests(len(labels)), fraction, seed)
    for label in set(labels):
        count, part = labels.count(label), int(held[torch.tensor(labels) == label].sum())
        assert abs(part - fraction * count) <= 1
        assert part < count
        assert part > 0 or count == 1


@given(st.data())
def test_every_class_of_every_task_keeps_a_training_picture(data):
    rows = data.draw(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 4)), min_size=1, max_size=40))
    held = hold_out(torch.tensor(rows), digests(len(rows)), 0.5, 0)
    for task in range(2):
        assert {row[task] for row in rows} - {-1} <= {row[task] for row, out in zip(rows, held, strict=True) if not out}


@given(st.permutations(range(30)), st.integers(0, 3))
def test_neither_order_nor_names_matter(order, seed):
    labels, hashes = torch.arange(30)[:, None] % 3, digests(30)
    held = hold_out(labels, hashes, 0.3, seed)
    again = hold_out(labels[list(order)], [hashes[index] for index in order], 0.3, seed)
    assert again.tolist() == held[list(order)].tolist()


def test_another_seed_holds_out_others(flat):
    assert chosen(open_dataset(flat, seed=0)) != chosen(open_dataset(flat, seed=1))


def test_a_broken_picture_moves_no_other(flat):
    before = chosen(open_dataset(flat))
    (flat / "cat" / "00-broken.jpg").write_bytes(b"")
    assert chosen(open_dataset(flat)) == before


def test_an_added_picture_moves_at_most_one(flat, draw):
    before = chosen(open_dataset(flat))
    for number in range(100, 104):
        draw(flat / "cat" / f"{number}.png", seed=number)
        after = chosen(open_dataset(flat))
        assert len(before - after) <= 1
        before = after


def test_renamed_pictures_stay_where_they_are(flat):
    before = {hashlib.sha256(path.read_bytes()).digest() for path in open_dataset(flat).test.items}
    for number, path in enumerate(sorted((flat / "cat").iterdir(), reverse=True)):
        path.rename(path.with_name(f"x{number}.png"))
    assert {hashlib.sha256(path.read_bytes()).digest() for path in open_dataset(flat).test.items} == before


def test_copies_of_a_picture_are_on_the_same_side(flat):
    for path in sorted((flat / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
    dataset = open_dataset(flat)
    assert len(dataset.test) == 12
    assert dataset.warnings == ()


def test_test_pictures_that_are_training_pictures_are_counted_with_an_example(folder):
    for name in ("cat", "dog"):
        shutil.copy(folder / "train" / name / "0.png", folder / "test" / name / "copy.png")
    (line,) = open_dataset(folder).warnings
    example = f"{folder}/test/cat/copy.png is {folder}/train/cat/0.png"
    assert line.startswith(f"2 test pictures are copies of training pictures, such as {example}")


def test_a_picture_in_two_classes_is_named(folder):
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "dog" / "same.png")
    (line,) = open_dataset(folder).warnings
    assert line.startswith("1 pictures are in more than one class, such as ")
    assert f"{folder}/train/cat/0.png (cat) and {folder}/train/dog/same.png (dog)" in line


def recorded(train: list[bytes], test: list[bytes], held_out: bool = True) -> SplitRecord:
    parts = [Pictures([Path("a.png")] * len(part), torch.arange(len(part)) % 2) for part in (train, test)]
    digest = ContentDigests(tuple(train), tuple(test), held_out)
    record = SplitRecord.of(Dataset((Task("pets", ("cat", "dog")),), *parts, digests=digest))
    assert record is not None
    return record


def test_a_record_knows_what_was_held_out_and_what_was_learned():
    hashes = digests(10)
    record = SplitRecord.from_dict(recorded(hashes[:6], hashes[6:9]).to_dict())
    assert [record.was_held_out(digest) for digest in hashes] == [False] * 6 + [True] * 3 + [False]
    assert [record.was_trained(digest) for digest in hashes] == [True] * 6 + [False] * 4
    assert record.all_trained


def test_a_record_of_many_pictures_stays_small():
    record = recorded(digests(3 * MOST_TRAINED), digests(3), held_out=False)
    assert not record.all_trained
    assert len(record.trained) == MOST_TRAINED
    assert record.held_out == frozenset()
    assert len(str(record.to_dict())) < 12_000


def test_a_record_knows_what_was_learned_later():
    hashes = digests(3 * MOST_TRAINED)
    record = recorded(hashes[:6], hashes[6:9]).with_trained(hashes[8:12])
    assert [record.was_trained(digest) for digest in hashes[:13]] == [True] * 6 + [False] * 2 + [True] * 4 + [False]
    assert [record.was_held_out(digest) for digest in hashes[6:9]] == [True] * 3
    assert record.all_trained
    assert not record.with_trained((), all_of_them=False).all_trained
    many = record.with_trained(hashes)
    assert not many.all_trained
    assert len(many.trained) <= MOST_TRAINED + 3
    assert all(many.was_trained(digest) for digest in hashes[6:9])


def test_pictures_without_a_label_of_the_task_are_not_recorded():
    labels = torch.tensor([[0, -1], [1, 0], [0, 1]])
    pictures = Pictures([Path("a.png")] * 3, labels)
    tasks = (Task("pets", ("cat", "dog")), Task("size", ("big", "small")))
    digest = ContentDigests(tuple(digests(3)), tuple(digests(3)), True)
    record = SplitRecord.of(Dataset(tasks, pictures, pictures, digests=digest), 1)
    assert record is not None
    assert [record.was_held_out(one) for one in digests(3)] == [False, True, True]


def test_what_was_not_looked_at_is_not_recorded(folder):
    assert SplitRecord.of(open_dataset(folder, check=False)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "recorded in format 2: this version reads 1"),
        ({"held_out": "AAAA"}, "record of the split is damaged"),
        ({"trained": 3}, "record of the split is damaged"),
    ],
)
def test_a_record_of_another_format_or_a_damaged_one_is_refused(change, message):
    with pytest.raises(SnowError, match=message):
        SplitRecord.from_dict(recorded(digests(4), digests(2)).to_dict() | change)
