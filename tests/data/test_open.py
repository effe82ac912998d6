from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from snow.data import decode, open_dataset
from snow.errors import SnowError


def refused(spec: object, message: str, **options: object) -> None:
    with pytest.raises(SnowError, match=message):
        open_dataset(spec, **options)


def test_a_folder_may_be_given_as_text_or_as_a_path(folder):
    assert open_dataset(str(folder)).train.items == open_dataset(folder).train.items


def test_what_is_no_data_set_is_refused(folder):
    refused(folder / "absent", "no such folder or file, and it is no name that starts with torch/ or hfds/")
    refused(folder / "absent.csv", "no such folder or file")
    tables = r"\.csv, \.tsv, \.jsonl, \.parquet or \.xlsx"
    refused(folder / "train/cat/0.png", rf"0\.png: neither a folder nor a {tables} file")


@pytest.mark.parametrize("fraction", [0, 1, -1, 1.5])
def test_a_test_fraction_leaves_something_on_either_side(folder, fraction):
    refused(folder, "test fraction", test_fraction=fraction)


def test_label_columns_are_for_tables(folder):
    refused(folder, "label columns are for a table", labels=["kind"])


def test_a_task_that_could_not_be_stored_is_refused(folder):
    refused(folder, "cannot name a task", task="../pets")


def test_a_folder_called_like_a_catalogue_is_a_folder(folder, monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (folder / "train").rename(tmp_path / "torch" / "pets")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("torch/pets").tasks[0].classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("https://example.org/pictures", "it is an address, so download it first"),
        ("~/pictures", "write ~ without quotes, or the whole path"),
        ("pictures/*", "write the pattern without quotes"),
    ],
)
def test_a_path_that_a_shell_has_not_expanded_is_told(spec: str, advice: str) -> None:
    with pytest.raises(SnowError, match=f"there is no such folder or file: {re.escape(advice)}"):
        open_dataset(spec)
    with pytest.raises(SnowError, match=f"does not exist: {re.escape(advice)}"):
        decode(spec)


@pytest.mark.parametrize(
    ("name", "advice"), [("a.zip", "unpack the archive first"), ("a.ods", "save the table as CSV")]
)
def test_other_files_are_told_what_to_become(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(SnowError, match=f"neither a folder nor a .csv, .* file: {advice}"):
        open_dataset(tmp_path / name)


def test_class_folders_one_level_deeper_are_pointed_out(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(folder / "train", outer / "animals")
    advice = f"there is only 'animals': if the classes are the folders in {outer / 'animals'}, use that folder"
    with pytest.raises(SnowError, match=re.escape(advice)):
        open_dataset(outer)
    assert open_dataset(outer / "animals").tasks[0].classes == ("cat", "dog")
