"""What counts as a picture in a folder."""

from __future__ import annotations

import pytest

from snow.data import is_junk_path, open_dataset, picture_files
from snow.data.rows import part_name
from snow.errors import SnowError

LEFT_BEHIND = (
    "._0.png",
    ".ipynb_checkpoints/0-checkpoint.png",
    "__MACOSX/cat/._0.png",
    "__MACOSX/0.png",
    "@eaDir/0.png",
    "$RECYCLE.BIN/0.png",
    ".git/0.png",
)


@pytest.mark.parametrize("path", [*LEFT_BEHIND, "Thumbs.db", "cat\\desktop.ini", ".DS_Store", "a/Icon\r"])
def test_what_systems_leave_behind_is_junk(path):
    assert is_junk_path(path)


@pytest.mark.parametrize("path", ["cat/0.png", "../cat/0.png", "a b/thumbs.png", "macosx/0.png"])
def test_other_files_are_not(path):
    assert not is_junk_path(path)


def test_training_and_prediction_see_the_same_pictures(folder, draw, tmp_path_factory):
    cat, elsewhere = folder / "train" / "cat", tmp_path_factory.mktemp("elsewhere")
    for name in (*LEFT_BEHIND, "deep/IMG.JPG"):
        draw(cat / name, seed=len(name))
    draw(elsewhere / "linked.png", seed=77)
    (cat / "link").symlink_to(elsewhere)
    (cat / "back").symlink_to(folder)
    (cat / "notes.txt").touch()
    found = picture_files(cat)
    assert [path.name for path in found] == ["0.png", "1.png", "2.png", "IMG.JPG", "linked.png"]
    learned = open_dataset(folder).train.items
    assert [path for path in learned if path.is_relative_to(cat)] == found


def test_an_unreadable_folder_is_one_line(tmp_path):
    with pytest.raises(SnowError, match="gone: cannot be read"):
        picture_files(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training_Set", "training"),
        ("seg_train", "train"),
        ("trainset", "train"),
        ("train2017", "train"),
        ("test_set", "test"),
        ("test1", "test"),
        ("val-images", "val"),
        ("valid", "valid"),
        ("trains", None),
        ("train_station", None),
        ("latest", None),
        ("train_test", None),
        ("set", None),
    ],
)
def test_names_of_parts(name, part):
    assert part_name(name) == part
