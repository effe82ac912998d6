"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011)."""

from __future__ import annotations

from pathlib import Path

from snow.data.decode import shown
from snow.data.published.published import Listed, Published, pairs
from snow.data.rows import Row
from snow.errors import SnowError

LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")


def read(folder: Path) -> Listed:
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
    read=read,
)
