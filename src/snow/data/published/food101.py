"""Food-101 (Bossard et al., 2014)."""

from __future__ import annotations

from pathlib import Path

from snow.data.published.published import Listed, Published, classes_of, lines
from snow.data.rows import SPLITS, Row


def read(folder: Path) -> Listed:
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
    read=read,
)
