"""What a learned task is measured on, and what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snow.data import Measured, SplitRecord, Task, open_dataset, open_measured
from snow.errors import SnowError

PETS = Task("pets", ("cat", "dog"))


@pytest.fixture
def flat(tmp_path: Path, draw) -> Path:
    """cat/ and dog/ with ten pictures each."""
    for number in range(20):
        draw(tmp_path / "flat" / ("cat", "dog")[number % 2] / f"{number:02d}.png", seed=number)
    return tmp_path / "flat"


def record_of(path: Path, **options: object) -> SplitRecord:
    record = SplitRecord.of(open_dataset(path, task="pets", **options))
    assert record is not None
    return record


def names(measured: Measured) -> set[str]:
    return {path.name for path in measured.pictures.items if isinstance(path, Path)}


def test_on_the_same_data_exactly_what_training_held_out(flat, draw):
    record, held_out = record_of(flat), {path.name for path in open_dataset(flat).test.items}
    (flat / "cat" / "00-broken.jpg").write_bytes(b"")
    draw(flat / "cat" / "new.png", seed=50)
    moved = flat.rename(flat.with_name("moved"))
    measured = open_measured(moved, PETS, record)
    assert (measured.basis, names(measured)) == ("held-out", held_out)
    assert measured.line == "what training held out, 4 pictures; 17 others are not measured"
    assert measured.warnings == (f"skipped {moved}/cat/00-broken.jpg: the file is empty",)


def test_a_held_out_picture_that_is_gone_is_counted(flat):
    record = record_of(flat)
    open_dataset(flat).test.items[0].unlink()
    assert "what training held out, 3 of 4 pictures" in open_measured(flat, PETS, record).line


def test_on_other_data_all_of_it(flat, tmp_path, draw):
    record = record_of(flat)
    for number in range(6):
        draw(tmp_path / "new" / ("cat", "dog")[number % 2] / f"{number}.png", seed=100 + number)
    measured = open_measured(tmp_path / "new", PETS, record)
    assert (measured.basis, len(measured.pictures)) == ("all", 6)
    assert "all of the data, 6 pictures: it has no test part, and training held out none of it" in measured.line
    assert measured.warnings == ()


def test_training_pictures_among_other_data_are_said(folder):
    record = record_of(folder)
    measured = open_measured(folder / "train", PETS, record)
    assert measured.basis == "all"
    (warning,) = measured.warnings
    assert warning.startswith("6 of the 6 pictures measured are training pictures of the task, such as ")


def test_a_test_part_is_what_is_measured(folder):
    measured = open_measured(folder, PETS, record_of(folder))
    assert (measured.basis, len(measured.pictures), measured.warnings) == ("test", 4, ())
    assert measured.line == "the test part of the data, 4 pictures"
    assert open_measured(folder, PETS, None).basis == "test"


def test_a_test_part_with_training_pictures_is_said(folder):
    record = record_of(folder)
    shutil.copy(folder / "train" / "dog" / "1.png", folder / "test" / "dog" / "copy.png")
    (warning,) = open_measured(folder, PETS, record).warnings
    assert warning.startswith("1 of the 5 pictures measured are training pictures")


def test_other_parts(flat, folder):
    record = record_of(flat)
    assert [len(open_measured(flat, PETS, record, part).pictures) for part in ("test", "train", "all")] == [4, 16, 20]
    assert [len(open_measured(folder, PETS, None, part).pictures) for part in ("test", "train", "all")] == [4, 6, 10]
    with pytest.raises(SnowError, match="has no training part, and is not what the task was trained on"):
        open_measured(folder / "train", PETS, record, "train")


def test_a_test_part_alone_and_one_class_alone_can_be_measured(folder):
    shutil.rmtree(folder / "train")
    assert len(open_measured(folder, PETS, None).pictures) == 4
    shutil.rmtree(folder / "test" / "dog")
    measured = open_measured(folder / "test", PETS, None)
    assert measured.pictures.labels.flatten().tolist() == [0, 0]
    assert f"{folder}/test: no picture of dog" in measured.warnings


def test_without_a_record_it_is_said_that_nobody_knows(flat):
    measured = open_measured(flat, PETS, None)
    assert measured.basis == "all"
    assert measured.warnings[0].startswith("task pets has no record of what it held out")


def test_what_an_earlier_version_held_out_is_drawn_again(flat):
    before = []

    def again(dataset):
        before.append(dataset.held_out(0.3, seed=5))
        return before[0]

    for part, basis in (("test", "held-out"), ("train", "train")):
        before.clear()
        measured = open_measured(flat, PETS, None, part, held_out_before=again)
        expected = before[0].test if part == "test" else before[0].train
        assert (measured.basis, measured.pictures.items) == (basis, expected.items)


def test_classes_meet_by_name_whatever_their_order_and_spelling(tmp_path, draw):
    lines = ["path,label"]
    for number, label in enumerate(["2.0", "1.0", "2.0"]):
        draw(tmp_path / f"{number}.png", seed=number)
        lines.append(f"{number}.png,{label}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    for classes in (("1", "2"), ("1.0", "2.0"), ("1", "2.0")):
        measured = open_measured(tmp_path / "t.csv", Task("count", classes), None)
        assert measured.pictures.labels.flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize("spelling", [str, str.upper, str.capitalize])
def test_truth_values_meet_as_csv_json_and_spreadsheets_write_them(tmp_path, draw, spelling):
    lines = ["path,label"]
    for number in range(4):
        draw(tmp_path / f"{number}.png", seed=number)
        lines.append(f"{number}.png,{spelling('true' if number else 'false')}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    for classes in (("false", "true"), ("True", "False")):
        measured = open_measured(tmp_path / "t.csv", Task("ok", classes), None)
        assert [classes[label].lower() for label in measured.pictures.labels[:, 0]] == ["false", *["true"] * 3]


def test_rows_without_a_label_are_one_line(tmp_path, draw):
    lines = ["path,label"]
    for number in range(6):
        draw(tmp_path / f"{number}.png", seed=number)
        lines.append(f"{number}.png,{('cat', 'dog', '')[number % 3]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    measured = open_measured(tmp_path / "t.csv", PETS, None)
    assert len(measured.pictures) == 4
    assert f"2 rows have no label, the first is {tmp_path}/t.csv, line 4" in measured.warnings


def test_a_class_that_the_task_lacks_is_refused(flat):
    (flat / "dog").rename(flat / "wolf")
    with pytest.raises(SnowError, match="not those of task pets: it lacks dog and it has wolf"):
        open_measured(flat, PETS, None)


def test_without_a_readable_picture_there_is_nothing_to_measure(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(SnowError, match="no readable picture with a label"):
        open_measured(folder, PETS, None)
