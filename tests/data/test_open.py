from __future__ import annotations

import pytest

from snow.data import open_dataset
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
