"""Names of classes: what is one name in two spellings, what is no label, what nothing can store."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from snow.data import Task, open_dataset
from snow.data.labels import clean_name, lookalikes, whole_numbers
from snow.errors import SnowError

NFD, NFC = unicodedata.normalize("NFD", "café"), "café"


def table(root: Path, labels: list[str], draw, name: str = "table.csv") -> Path:
    """A table with two pictures of each label."""
    lines = ["path,label"]
    for number, label in enumerate([*labels, *labels]):
        draw(root / f"{number}.png", seed=number)
        lines.append(f"{number}.png,{label}")
    (root / name).write_text("\n".join(lines), encoding="utf-8")
    return root / name


@pytest.mark.parametrize(
    ("name", "clean"), [(" cat ", "cat"), ("\u00a0cat\ufeff", "cat"), (NFD, NFC), ("big cat", "big cat"), ("", "")]
)
def test_a_name_has_one_spelling(name, clean):
    assert clean_name(name) == clean


def test_whole_numbers_are_one_class_however_they_are_written():
    assert whole_numbers(["1", "1.0", "2."]) == {"1": "1", "1.0": "1", "2.": "2"}
    assert whole_numbers(["01", "1"]) == {"01": "01", "1": "1"}
    assert whole_numbers(["1.0", "1.5"]) == {}
    assert whole_numbers(["1.0", "cat"]) == {}


def test_lookalikes_are_named():
    assert lookalikes(["cat", "dog", "2"]) == []
    for one, other in (("Cat", "cat"), ("01", "1"), ("big cat", "big_cat"), ("'a'", "a"), ("\uff41", "a")):
        (line,) = lookalikes([one, other])
        assert line.startswith(f"classes {one!r} and {other!r} are probably one")


@pytest.mark.parametrize("missing", ["NaN", "nan", "NA", "N/A", "<NA>", "None", "null", "NULL", "#N/A"])
def test_a_missing_value_is_no_label_and_is_said(tmp_path, draw, missing):
    dataset = open_dataset(table(tmp_path, ["cat", "dog", missing], draw))
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert f"column 'label' of {tmp_path}/table.csv: 2 cells with {missing} are taken for no label" in dataset.warnings
    assert sum("there is no label" in line for line in dataset.warnings) == 2


def test_words_that_could_be_classes_stay_classes(tmp_path, draw):
    dataset = open_dataset(table(tmp_path, ["none", "na", "yes"], draw))
    assert dataset.tasks[0].classes == ("na", "none", "yes")


def test_a_folder_may_have_the_name_of_a_missing_value(tmp_path, draw):
    for name in ("NA", "EU"):
        for number in range(2):
            draw(tmp_path / name / f"{number}.png", seed=number + 9 * (name == "NA"))
    assert open_dataset(tmp_path).tasks[0].classes == ("EU", "NA")


def test_numbers_of_joined_tables_are_one_class_and_it_is_said(tmp_path, draw):
    dataset = open_dataset(table(tmp_path, ["1", "1.0", "2", "2.0"], draw))
    assert dataset.tasks[0].classes == ("1", "2")
    assert any("labels such as 1.0 are taken for whole numbers" in line for line in dataset.warnings)
    assert open_dataset(table(tmp_path, ["1", "1.5"], draw)).tasks[0].classes == ("1", "1.5")


def test_codes_with_leading_zeros_stay_apart_and_it_is_said(tmp_path, draw):
    dataset = open_dataset(table(tmp_path, ["01", "1", "2"], draw))
    assert dataset.tasks[0].classes == ("01", "1", "2")
    assert "task 'task': classes '01' and '1' are probably one: spell them alike, or leave them as two" in (
        dataset.warnings
    )


@pytest.mark.parametrize("cell", [' "cat"', " cat ", "cat ", '"cat"', "\u00a0cat"])
def test_spaces_and_quotes_around_a_label_are_no_part_of_it(tmp_path, draw, cell):
    assert open_dataset(table(tmp_path, ["cat", cell, "dog"], draw)).tasks[0].classes == ("cat", "dog")


def test_a_quote_that_csv_cannot_read_is_named_with_its_line(tmp_path, draw):
    with pytest.raises(SnowError, match=r"not a CSV file \(.* in line 3\)"):
        open_dataset(table(tmp_path, ["cat", '"dog"x'], draw))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has one form only")
def test_two_unicode_forms_of_a_folder_are_one_class(tmp_path, draw):
    for number, name in enumerate((NFD, NFC, "tea")):
        for index in range(2):
            draw(tmp_path / name / f"{index}.png", seed=10 * number + index)
    dataset = open_dataset(tmp_path)
    assert dataset.tasks[0].classes == (NFC, "tea")
    assert len(dataset.train) + len(dataset.test) == 6
    assert any("have the same name but for spaces or Unicode: one class" in line for line in dataset.warnings)


def test_two_unicode_forms_in_a_table_are_one_class(tmp_path, draw):
    assert open_dataset(table(tmp_path, [NFD, NFC, "tea"], draw)).tasks[0].classes == (NFC, "tea")


def test_a_test_part_may_have_the_other_unicode_form(folder):
    (folder / "train" / "cat").rename(folder / "train" / NFD)
    (folder / "test" / "cat").rename(folder / "test" / NFC)
    assert open_dataset(folder).test.labels.flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_class_folder_that_is_not_utf_8_is_refused_before_anything_is_read(folder):
    os.rename(folder / "train" / "cat", os.fsencode(folder / "train") + b"/caf\xe9")
    with pytest.raises(SnowError, match=r"class folder 'caf\\udce9' is not text in UTF-8: rename it") as refused:
        open_dataset(folder)
    str(refused.value).encode()


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "bell\x07"])
def test_names_that_no_file_can_hold_are_refused(name):
    with pytest.raises(SnowError, match="is not text in UTF-8: rename it"):
        Task("pets", ("cat", name))
