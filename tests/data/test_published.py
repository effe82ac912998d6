"""The paper's data sets in the layouts of their authors: what is found, and what is said of a part that is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision import datasets
from trees import TREES

from snow.data import open_dataset
from snow.data.published import PUBLISHED
from snow.errors import SnowError

Write = Callable[[str, Path], Path]


@pytest.fixture(params=PUBLISHED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tree(name: str, write_tree: Write, tmp_path: Path) -> Path:
    return write_tree(name, tmp_path / "data")


def test_every_set_has_a_tree_to_be_tested_on() -> None:
    assert {name: one.folder for name, one in PUBLISHED.items()} == {
        name: folder for name, (folder, _) in TREES.items()
    }


def test_a_set_is_known_by_its_structure_whatever_its_folder_is_called(name: str, tree: Path) -> None:
    other = tree.rename(tree.with_name("pictures"))
    dataset = open_dataset(other, task="five")
    assert (len(dataset.train), len(dataset.test)) == (24, 12)
    assert [task.name for task in dataset.tasks] == ["five"]
    assert len(dataset.tasks[0].classes) == 3
    known = PUBLISHED[name]
    wanted = f"{known.classes} classes with {known.train:,}/{known.test:,} pictures"
    assert dataset.warnings == (
        f"{name} in {other} has 3 classes with 24/12 pictures; the paper's Table 3 has {wanted}",
    )


def test_pictures_have_the_labels_and_parts_that_the_lists_give(tree: Path) -> None:
    """A class is one colour, so a picture under a wrong label would show."""
    dataset = open_dataset(tree)
    for part in (dataset.train, dataset.test):
        for index in range(len(part)):
            pixels, label = part[index]
            assert int(pixels.float().mean((1, 2)).argmax()) == label
    assert not set(dataset.train.items) & set(dataset.test.items)


def test_a_name_finds_the_set_below_a_folder(name: str, tree: Path) -> None:
    expected = open_dataset(tree)
    for spec, root in ((f"{name}:{tree.parent}", None), (f"{name}:{tree.parent.parent}", None), (name, tree.parent)):
        found = open_dataset(spec, root=root)
        assert found.test.items == expected.test.items
        assert found.tasks[0].classes == expected.tasks[0].classes


def test_where_a_set_lies_in_part_and_whole_the_whole_one_is_taken(name: str, tree: Path) -> None:
    shutil.copytree(tree, tree.with_name("aaa"))
    shutil.rmtree(next(path for path in tree.with_name("aaa").iterdir() if any(path.rglob("*.jpg"))))
    assert len(open_dataset(f"{name}:{tree.parent}").train) == 24


def test_every_missing_part_is_named_with_where_to_get_it(name: str, tree: Path) -> None:
    known = PUBLISHED[name]
    for need in known.needs:
        part = tree / need.split(" or ")[0]
        away = part.rename(tree.parent / "away")
        with pytest.raises(SnowError) as refused:
            open_dataset(f"{name}:{tree.parent}")
        told = str(refused.value)
        assert f"not complete: {need} missing" in told or f"{name}: not found in" in told
        assert known.home in told
        assert known.archives[0] in told
        away.rename(part)
    shutil.rmtree(tree)
    with pytest.raises(
        SnowError, match=f"{name}: not found in .*; get {known.archives[0]}.* unpack to {known.folder}/"
    ):
        open_dataset(f"{name}:{tree.parent}")


def test_pictures_that_are_listed_and_missing_are_counted(name: str, tree: Path) -> None:
    gone = sorted(tree.rglob("*.jpg"))[:5]
    for path in gone:
        path.unlink()
    with pytest.raises(
        SnowError, match=r"5 of 36 pictures are missing, as .*\.jpg; get .* and unpack again"
    ) as refused:
        open_dataset(tree)
    assert any(path.name in str(refused.value) for path in gone)


def test_an_empty_list_is_refused(tree: Path) -> None:
    lists = [path for path in sorted(tree.rglob("*")) if path.suffix in (".txt", ".mat")]
    lists = [path for path in lists if path.name not in ("actions.txt", "cars_test_annos.mat")]
    refusals = 0
    for path in lists:
        content = path.read_bytes()
        path.write_bytes(b"")
        try:
            open_dataset(tree)
        except SnowError as error:
            refusals += path.name in str(error)
        path.write_bytes(content)
    assert refusals >= 2


def test_test_pictures_without_labels_are_refused(write_tree: Write, tmp_path: Path) -> None:
    tree = write_tree("stanford-cars", tmp_path)
    shutil.copy(tree / "devkit" / "cars_test_annos.mat", tree / "cars_test_annos_withlabels.mat")
    with pytest.raises(SnowError, match=r"cars_test_annos_withlabels.mat: there are no labels in it"):
        open_dataset(tree)


def test_test_labels_may_lie_in_the_devkit(write_tree: Write, tmp_path: Path) -> None:
    tree = write_tree("stanford-cars", tmp_path)
    (tree / "cars_test_annos_withlabels.mat").rename(tree / "devkit" / "cars_test_annos_withlabels.mat")
    assert len(open_dataset(tree).test) == 12


def test_actions_may_be_listed_together(write_tree: Write, tmp_path: Path) -> None:
    tree = write_tree("stanford40", tmp_path)
    expected = open_dataset(tree)
    (tree / "ImageSplits" / "applauding_test.txt").unlink()
    with pytest.raises(SnowError, match=r"applauding_test.txt is missing beside applauding_train.txt"):
        open_dataset(tree)
    for path in (tree / "ImageSplits").glob("*_t*.txt"):
        path.unlink()
    found = open_dataset(tree)
    assert found.tasks == expected.tasks
    assert sorted(found.train.items) == sorted(expected.train.items)


def test_a_class_that_is_not_named_is_refused(write_tree: Write, tmp_path: Path) -> None:
    tree = write_tree("cub200", tmp_path)
    labels = tree / "image_class_labels.txt"
    labels.write_text(labels.read_text().replace("1 1\n", "1 7\n", 1))
    with pytest.raises(SnowError, match=r"classes.txt: there is no class 7"):
        open_dataset(tree)
    labels.write_text("1 1\n")
    with pytest.raises(SnowError, match=r"image_class_labels.txt: it has other pictures than images.txt"):
        open_dataset(tree)


def test_a_name_alone_is_not_enough() -> None:
    with pytest.raises(SnowError, match="cub200 needs the folder that it is in: cub200:FOLDER"):
        open_dataset("cub200")


@pytest.mark.parametrize(
    ("name", "reader", "around"),
    [
        ("food101", datasets.Food101, ""),
        ("dtd", datasets.DTD, "dtd"),
        ("stanford-cars", datasets.StanfordCars, ""),
    ],
)
def test_torchvision_reads_the_same(name: str, reader: type, around: str, write_tree: Write, tmp_path: Path) -> None:
    dataset = open_dataset(write_tree(name, tmp_path / around))
    for pictures, splits in (
        (dataset.train, ["train", "val"] if name == "dtd" else ["train"]),
        (dataset.test, ["test"]),
    ):
        theirs = [one for split in splits for one in reader(tmp_path, split=split, loader=Path)]
        ours = zip(pictures.items, pictures.labels.flatten().tolist(), strict=True)
        assert sorted(ours) == sorted(theirs)
        assert tuple(reader(tmp_path, split=splits[0]).classes) == dataset.tasks[0].classes
