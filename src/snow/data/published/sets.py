"""The five data sets of the paper as their authors distribute them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.data.decode import shown
from snow.data.published.published import Listed, Published, classes_of, lines, pairs
from snow.data.rows import SPLITS, Row, Split
from snow.errors import SnowError


def _read_food101(folder: Path) -> Listed:
    """`meta/train.txt` and `meta/test.txt` have lines CLASS/NUMBER for `images/CLASS/NUMBER.jpg`."""
    rows = [
        Row(folder / "images" / f"{line}.jpg", (line.partition("/")[0],), SPLITS[part])
        for part in ("train", "test")
        for line in lines(folder / "meta" / f"{part}.txt")
    ]
    return Listed(classes_of(rows), rows)


FOOD101 = Published(
    name="food101",
    column="Food",
    title="Food-101",
    folder="food-101",
    home="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    archives=("food-101.tar.gz",),
    marks=("meta/train.txt", "meta/test.txt", "meta/classes.txt"),
    needs=("meta/train.txt", "meta/test.txt", "images"),
    classes=101,
    train=75_750,
    test=25_250,
    read=_read_food101,
)


PARTS: dict[str, Split] = {"train1": "train", "val1": "train", "test1": "test"}
"""Of the ten official partitions the first. The paper's 3,760 training pictures are its train and its val."""


def _read_dtd(folder: Path) -> Listed:
    """`labels/train1.txt` and the others have lines CLASS/FILE for `images/CLASS/FILE`."""
    rows = [
        Row(folder / "images" / line, (line.partition("/")[0],), split)
        for part, split in PARTS.items()
        for line in lines(folder / "labels" / f"{part}.txt")
    ]
    return Listed(classes_of(rows), rows)


DTD = Published(
    name="dtd",
    column="DTD",
    title="Describable Textures",
    folder="dtd",
    home="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    archives=("dtd-r1.0.1.tar.gz",),
    marks=("labels/train1.txt", "labels/val1.txt", "labels/test1.txt"),
    needs=("labels/train1.txt", "labels/val1.txt", "labels/test1.txt", "images"),
    classes=47,
    train=3_760,
    test=1_880,
    read=_read_dtd,
)


def _read_stanford40(folder: Path) -> Listed:
    """`ImageSplits/ACTION_train.txt` and `ACTION_test.txt` list files of `JPEGImages/`.

    Where there are none, `train.txt` and `test.txt` list them all, and a file is called after its action.
    """
    splits = folder / "ImageSplits"
    rows = []
    for part, other in (("train", "test"), ("test", "train")):
        lists = {path: path.stem.removesuffix(f"_{part}") for path in sorted(splits.glob(f"*_{part}.txt"))}
        for path, action in lists.items():
            if not (splits / f"{action}_{other}.txt").exists():
                raise SnowError(f"{shown(splits)} is not complete: {action}_{other}.txt is missing beside {path.name}")
        for path in lists or [splits / f"{part}.txt"]:
            for line in lines(path):
                action = lists.get(path, line.rpartition("_")[0])
                rows.append(Row(folder / "JPEGImages" / line, (action,), SPLITS[part]))
    return Listed(classes_of(rows), rows)


STANFORD40 = Published(
    name="stanford40",
    column="Action",
    title="Stanford 40 Actions",
    folder="Stanford40",
    home="http://vision.stanford.edu/Datasets/40actions.html",
    archives=("Stanford40_JPEGImages.zip", "Stanford40_ImageSplits.zip"),
    marks=("ImageSplits",),
    needs=("ImageSplits", "JPEGImages"),
    classes=40,
    train=4_000,
    test=5_532,
    read=_read_stanford40,
)


TEST_LABELS = ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat")
"""The devkit has the test pictures without labels; those came later, in a file of their own."""


def _read_cars(folder: Path) -> Listed:
    """`devkit/cars_meta.mat` names the classes; the annotations give, for each file, its class from 1."""
    classes = tuple(str(name) for name in _column(folder / "devkit" / "cars_meta.mat", "class_names"))
    labels = next(folder / name for name in TEST_LABELS if (folder / name).exists())
    rows = _car_rows(folder / "devkit" / "cars_train_annos.mat", folder / "cars_train", classes, "train")
    return Listed(classes, rows + _car_rows(labels, folder / "cars_test", classes, "test"))


def _car_rows(file: Path, pictures: Path, classes: tuple[str, ...], split: Split) -> list[Row]:
    rows = []
    for entry in _column(file, "annotations"):
        if "class" not in (entry.dtype.names or ()):
            raise SnowError(f"{shown(file)}: there are no labels in it")
        number = int(entry["class"])
        if not 1 <= number <= len(classes):
            raise SnowError(f"{shown(file)}: class {number} is none of the {len(classes)} in devkit/cars_meta.mat")
        rows.append(Row(pictures / str(entry["fname"]), (classes[number - 1],), split))
    return rows


def _column(file: Path, name: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(file, squeeze_me=True)[name]
    except Exception as error:  # a damaged file can fail in any way
        raise SnowError(f"{shown(file)}: cannot be read ({error})") from None


CARS = Published(
    name="stanford-cars",
    column="Car",
    title="Stanford Cars",
    folder="stanford_cars",
    home="https://ai.stanford.edu/~jkrause/cars/car_dataset.html (gone; https://github.com/pytorch/vision/issues/7545 "
    "names copies)",
    archives=("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", "cars_test_annos_withlabels.mat"),
    marks=("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", TEST_LABELS[0]),
    needs=(
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        " or ".join(TEST_LABELS),
        "cars_train",
        "cars_test",
    ),
    classes=196,
    train=8_144,
    test=8_041,
    read=_read_cars,
)


LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")


def _read_cub200(folder: Path) -> Listed:
    """Four lists of lines NUMBER VALUE: class names, files of `images/`, class numbers, and 1 for training."""
    classes, images, labels, is_train = (pairs(folder / name) for name in LISTS)
    for name, found in zip(LISTS[2:], (labels, is_train), strict=True):
        if found.keys() != images.keys():
            raise SnowError(f"{shown(folder / name)}: it has other pictures than images.txt")
    strangers = set(labels.values()) - classes.keys()
    if strangers:
        raise SnowError(f"{shown(folder / 'classes.txt')}: there is no class {min(strangers)}")
    rows = [
        Row(folder / "images" / path, (classes[labels[number]],), "train" if is_train[number] == "1" else "test")
        for number, path in images.items()
    ]
    return Listed(tuple(classes.values()), rows)


CUB200 = Published(
    name="cub200",
    column="CUB",
    title="Caltech-UCSD Birds-200-2011",
    folder="CUB_200_2011",
    home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    archives=("CUB_200_2011.tgz",),
    marks=LISTS[1:],
    needs=(*LISTS, "images"),
    classes=200,
    train=5_994,
    test=5_794,
    read=_read_cub200,
)
