"""Describable Textures (Cimpoi et al., 2014)."""

from __future__ import annotations

from pathlib import Path

from snow.data.published.published import Listed, Published, classes_of, lines
from snow.data.rows import Row, Split

PARTS: dict[str, Split] = {"train1": "train", "val1": "train", "test1": "test"}
"""Of the ten official partitions the first. The paper's 3,760 training pictures are its train and its val."""


def read(folder: Path) -> Listed:
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
    read=read,
)
