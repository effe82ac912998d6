"""Stanford 40 Actions (Yao et al., 2011)."""

from __future__ import annotations

from pathlib import Path

from snow.data.decode import shown
from snow.data.published.published import Listed, Published, classes_of, lines
from snow.data.rows import SPLITS, Row
from snow.errors import SnowError


def read(folder: Path) -> Listed:
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
    read=read,
)
