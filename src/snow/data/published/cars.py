"""Stanford Cars (Krause et al., 2013)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.data.decode import shown
from snow.data.published.published import Listed, Published
from snow.data.rows import Row, Split
from snow.errors import SnowError

TEST_LABELS = ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat")
"""The devkit has the test pictures without labels; those came later, in a file of their own."""


def read(folder: Path) -> Listed:
    """`devkit/cars_meta.mat` names the classes; the annotations give, for each file, its class from 1."""
    classes = tuple(str(name) for name in _column(folder / "devkit" / "cars_meta.mat", "class_names"))
    labels = next(folder / name for name in TEST_LABELS if (folder / name).exists())
    rows = _rows(folder / "devkit" / "cars_train_annos.mat", folder / "cars_train", classes, "train")
    return Listed(classes, rows + _rows(labels, folder / "cars_test", classes, "test"))


def _rows(file: Path, pictures: Path, classes: tuple[str, ...], split: Split) -> list[Row]:
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
    read=read,
)
