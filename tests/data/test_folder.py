from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from snow.data import Dataset, open_dataset
from snow.errors import SnowError


def names(dataset: Dataset, split: str = "train") -> list[tuple[str, str]]:
    pictures = getattr(dataset, split)
    classes = dataset.tasks[0].classes
    return [
        (path.name, classes[label]) for path, label in zip(pictures.items, pictures.labels[:, 0].tolist(), strict=True)
    ]


def refused(root: Path, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        open_dataset(root)


def test_train_and_test_with_sorted_classes(folder):
    dataset = open_dataset(folder, task="pets")
    assert dataset.tasks[0].name == "pets"
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert names(dataset) == [(f"{n}.png", name) for name in ("cat", "dog") for n in range(3)]
    assert names(dataset, "test") == [(f"{n}.png", name) for name in ("cat", "dog") for n in range(2)]
    assert all(path.parent.name == "dog" for path in dataset.test.items[2:])
    assert dataset.warnings == ()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Test"])
def test_other_names_of_the_test_part(folder, name):
    (folder / "test").rename(folder / name)
    assert len(open_dataset(folder).test) == 4
    assert open_dataset(folder).warnings == ()


def test_test_is_preferred_to_val_and_other_folders_are_named(folder):
    shutil.copytree(folder / "test", folder / "val")
    (folder / "notes").mkdir()
    dataset = open_dataset(folder)
    assert all(path.parts[-3] == "test" for path in dataset.test.items)
    assert dataset.warnings == (
        f"ignored {folder / 'notes'}: used are train/ and test/",
        f"ignored {folder / 'val'}: used are train/ and test/",
    )


@pytest.mark.parametrize("layout", ["classes alone", "train alone"])
def test_without_a_test_part_one_is_held_out_by_the_seed(folder, layout):
    shutil.rmtree(folder / "test")
    root = folder / "train" if layout == "classes alone" else folder
    first, again, other = (open_dataset(root, test_fraction=0.4, seed=seed) for seed in (0, 0, 3))
    assert first.test.items == again.test.items != other.test.items
    assert first.test.labels.flatten().tolist() == [0, 1]
    assert sorted(first.train.items + first.test.items) == sorted((folder / "train").rglob("*.png"))
    line = f"no test/ or val/ in {folder}: 40% of train/ is held out for testing (seed 0)"
    assert first.warnings == (() if layout == "classes alone" else (line,))


def test_classes_may_be_called_test_and_train_like(tmp_path, draw):
    for name in ("test", "control"):
        for number in range(2):
            draw(tmp_path / name / f"{number}.png")
    assert open_dataset(tmp_path).tasks[0].classes == ("control", "test")


def test_a_class_may_be_called_train(tmp_path, draw):
    for number, name in enumerate(("car", "plane", "train")):
        for index in range(3):
            draw(tmp_path / name / f"{index}.png", seed=10 * number + index)
    draw(tmp_path / "train" / "old" / "9.png", seed=90)
    dataset = open_dataset(tmp_path)
    assert dataset.tasks[0].classes == ("car", "plane", "train")
    assert len(dataset.train) + len(dataset.test) == 10
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    ("train", "test"),
    [("training_set", "test_set"), ("seg_train", "seg_test"), ("TrainSet", "valid"), ("train2", "val")],
)
def test_names_that_parts_have_elsewhere(folder, train, test):
    (folder / "train").rename(folder / train)
    (folder / "test").rename(folder / test)
    dataset = open_dataset(folder)
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test), dataset.warnings) == (6, 4, ())


def test_a_test_folder_without_labels_is_named_and_a_part_is_held_out(folder, draw):
    shutil.rmtree(folder / "test")
    for number in range(3):
        draw(folder / "test" / f"{number}.png", seed=70 + number)
    dataset = open_dataset(folder)
    assert dataset.warnings == (
        f"ignored {folder / 'test'}: its 3 pictures are in no class folder, so they have no labels",
        f"no test/ or val/ in {folder}: 20% of train/ is held out for testing (seed 0)",
    )
    assert (len(dataset.train), len(dataset.test)) == (4, 2)


def test_a_labelled_val_folder_is_used_beside_a_test_folder_without_labels(folder, draw):
    (folder / "test").rename(folder / "val")
    draw(folder / "test" / "0.png", seed=70)
    dataset = open_dataset(folder)
    assert len(dataset.test) == 4
    (line,) = dataset.warnings
    assert line.startswith(f"ignored {folder / 'test'}: its 1 pictures are in no class folder")


def test_training_pictures_in_no_class_folder_are_refused_with_their_number(tmp_path, draw):
    for part in ("train", "test"):
        for number in range(2):
            draw(tmp_path / part / f"{number}.png", seed=number)
    refused(tmp_path, "there is none; its 2 pictures are in no class folder and have no labels")


def test_a_test_folder_beside_its_classes_is_the_test_part(folder):
    for path in sorted((folder / "train").iterdir()):
        path.rename(folder / path.name)
    (folder / "train").rmdir()
    dataset = open_dataset(folder)
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (6, 4)
    assert dataset.warnings == (
        f"{folder / 'test'} is the test part, since its folders have the names of those beside it",
    )


def test_extensions_in_any_case_and_subfolders_of_a_class(folder, draw):
    for name in ("A.JPG", "b.Jpeg", "c.webp", "deep/er/d.PNG"):
        draw(folder / "train" / "cat" / name)
    found = [name for name, label in names(open_dataset(folder)) if label == "cat"]
    assert found == ["0.png", "1.png", "2.png", "A.JPG", "b.Jpeg", "c.webp", "d.PNG"]


def test_a_link_back_is_not_followed_and_a_linked_class_is(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "train" / "dog").rename(elsewhere / "dog")
    (folder / "train" / "dog").symlink_to(elsewhere / "dog")
    (folder / "train" / "cat" / "loop").symlink_to(folder / "train")
    assert len(open_dataset(folder).train) == 6


def test_bad_pictures_are_skipped_with_a_line_each(folder):
    cat = folder / "train" / "cat"
    (cat / "broken.png").write_bytes((cat / "0.png").read_bytes()[:200])
    (cat / "empty.jpg").touch()
    (cat / "link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "test" / "dog" / "text.webp").write_text("hello")
    dataset = open_dataset(folder)
    assert dataset.warnings == (
        f"skipped {cat / 'broken.png'}: the picture is truncated",
        f"skipped {cat / 'empty.jpg'}: the file is empty",
        f"skipped {cat / 'link.jpg'}: is a broken link",
        f"skipped {folder / 'test/dog/text.webp'}: not a JPEG, PNG, WebP, BMP, GIF or TIFF picture",
    )
    assert names(dataset) == [(f"{n}.png", name) for name in ("cat", "dog") for n in range(3)]
    assert len(dataset.test) == 4


def test_without_the_check_a_bad_picture_is_refused_when_its_turn_comes(folder):
    bad = folder / "train" / "cat" / "empty.jpg"
    bad.touch()
    dataset = open_dataset(folder, check=False)
    assert dataset.warnings == ()
    assert dataset.train[0][0].shape == (3, 16, 24)
    with pytest.raises(SnowError, match=r"empty\.jpg: the file is empty"):
        dataset.train[dataset.train.items.index(bad)]


def test_other_files_are_named_once_for_each_folder_and_junk_is_not(folder):
    cat = folder / "train" / "cat"
    for name in ("notes.txt", "sizes.csv", ".DS_Store", "Thumbs.db", "._0.png", ".hidden.jpg"):
        (cat / name).touch()
    for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
        (folder / "train" / name).mkdir()
    (folder / "README.md").touch()
    dataset = open_dataset(folder)
    assert dataset.warnings == (f"ignored in {cat}: 2 files that are no pictures, as notes.txt",)
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert len(dataset.train) == 6


def test_pictures_in_no_class_folder_are_named(folder, draw):
    draw(folder / "train" / "stray.png")
    line = f"ignored in {folder / 'train'}: 1 pictures that are in no class folder"
    assert open_dataset(folder).warnings == (line,)


def test_a_class_without_a_readable_training_picture_is_refused(folder):
    shutil.rmtree(folder / "train" / "cat")
    (folder / "train" / "cat").mkdir()
    refused(folder, "class 'cat' of task 'task' has no readable training picture")
    (folder / "train" / "cat" / "a.jpg").touch()
    refused(folder, r"class 'cat' .*\(1 skipped in all, first .*a\.jpg: the file is empty\)$")


def test_a_class_without_a_test_picture_is_allowed_and_named(folder, draw):
    draw(folder / "train" / "ant" / "0.png")
    (folder / "train" / "bee").mkdir()
    draw(folder / "train" / "bee" / "0.png", seed=7)
    (folder / "test" / "bee").mkdir()
    dataset = open_dataset(folder)
    assert dataset.warnings == ("task 'task': no test picture of 'ant', 'bee'",)
    assert dataset.test.labels.flatten().tolist() == [2, 2, 3, 3]


def test_a_class_in_the_test_part_alone_is_refused(folder, draw):
    draw(folder / "test" / "Cat" / "0.png")
    refused(folder, "the test split of task 'task' has 'Cat', which training has not")


def test_no_readable_test_picture_is_refused(folder):
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"")
    refused(folder, r"no readable test picture \(4 skipped in all, first .*the file is empty\)$")


def test_fewer_than_two_classes_are_refused(folder):
    shutil.rmtree(folder / "train" / "cat")
    refused(folder, r"train: at least two class folders are needed, and there is only 'dog'")
    shutil.rmtree(folder / "train" / "dog")
    refused(folder, r"train: at least two class folders are needed, and there is none")


def test_test_without_train_and_a_missing_folder_are_refused(folder):
    shutil.rmtree(folder / "train")
    refused(folder, "there is test/ but no train/")
    refused(folder / "absent", "absent: there is no such folder or file")


def test_an_unreadable_folder_is_refused(folder, monkeypatch):
    def deny(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", deny)
    refused(folder, r"cannot be read \(Permission denied\)")


def test_odd_pictures_are_used_without_a_word(folder, draw):
    cat = folder / "train" / "cat"
    draw(cat / "gray.jpg", mode="L")
    draw(cat / "cmyk.jpg", mode="CMYK")
    draw(cat / "alpha.png", mode="RGBA")
    draw(cat / "palette.png", mode="P")
    draw(cat / "tiny.png", size=(1, 1))
    Image.new("L", (9000, 1000)).save(cat / "large.png")
    dataset = open_dataset(folder)
    assert dataset.warnings == ()
    assert len(dataset.train) == 12
    assert all(dataset.train[n][0].dtype == torch.uint8 for n in range(12))


def test_names_that_are_no_text_are_shown_in_one_printable_line(folder):
    (folder / "train" / "cat" / "odd\nname\udcff.jpg").touch()
    (line,) = open_dataset(folder).warnings
    assert line.endswith("odd name\\udcff.jpg: the file is empty")
    line.encode()


def test_progress_is_reported_to_the_end(folder):
    calls: list[tuple[int, int]] = []
    open_dataset(folder, progress=lambda done, there_are: calls.append((done, there_are)))
    assert calls[-1] == (10, 10)


def test_one_picture_of_each_class_leaves_none_to_test_on(tmp_path, draw):
    for number, name in enumerate(("cat", "dog")):
        draw(tmp_path / name / "0.png", seed=number)
    refused(tmp_path, "no class has a second picture, .*so none is left to test on: add pictures")
