"""Small trees in the layouts in which the authors of the paper's data sets distribute them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from torch import Tensor

Draw = Callable[..., tuple[Tensor, Tensor]]
TRAIN, TEST = 8, 4
"""Pictures of each of three classes."""


class Tree:
    """Pictures whose class is their colour, written where a layout wants them."""

    def __init__(self, folder: Path, draw: Draw) -> None:
        self.folder, self.draw = folder, draw

    def pictures(self, path: Callable[[str, int, int], str], train: int = TRAIN, test: int = TEST) -> list[Any]:
        """Writes all and returns (part, class, number) of each. `path`: of one, from its part, class and number."""
        found = []
        for part, count in (("train", train), ("test", test)):
            images, labels = self.draw(3 * count, 3, 64, seed=len(found))
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                file = self.folder / path(part, label, number)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, quality=95)
                found.append((part, label, number))
        return found

    def text(self, name: str, lines: list[str]) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    def matrix(self, name: str, values: dict[str, Any]) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        savemat(file, values)


def food101(tree: Tree) -> None:
    names = ("apple_pie", "bibimbap", "waffles")
    listed: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for part, label, number in tree.pictures(lambda part, c, n: f"images/{names[c]}/{n}{'07'[part == 'test']}.jpg"):
        listed[part].setdefault(names[label], []).append(f"{names[label]}/{number}{'07'[part == 'test']}")
    for part, classes in listed.items():
        tree.text(f"meta/{part}.txt", [line for lines in classes.values() for line in lines])
        (tree.folder / "meta" / f"{part}.json").write_text(json.dumps(classes))
    tree.text("meta/classes.txt", list(names))


def dtd(tree: Tree) -> None:
    names = ("banded", "grid", "zigzagged")
    listed: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for part, label, number in tree.pictures(lambda part, c, n: f"images/{names[c]}/{names[c]}_{part}{n:04}.jpg"):
        known = "val" if part == "train" and number % 2 else part
        listed[known].append(f"{names[label]}/{names[label]}_{part}{number:04}.jpg")
    for part, lines in listed.items():
        tree.text(f"labels/{part}1.txt", lines)
        tree.text(f"labels/{part}2.txt", lines[::-1])


def stanford40(tree: Tree) -> None:
    names = ("applauding", "blowing_bubbles", "writing_on_a_board")
    listed: dict[tuple[str, int], list[str]] = {}
    for part, label, number in tree.pictures(lambda part, c, n: f"JPEGImages/{names[c]}_{n}{'07'[part == 'test']}.jpg"):
        listed.setdefault((part, label), []).append(f"{names[label]}_{number}{'07'[part == 'test']}.jpg")
    for (part, label), lines in listed.items():
        tree.text(f"ImageSplits/{names[label]}_{part}.txt", lines)
    for part in ("train", "test"):
        lines = [line for (one, _), found in sorted(listed.items()) if one == part for line in found]
        tree.text(f"ImageSplits/{part}.txt", lines)
    tree.text("ImageSplits/actions.txt", ["action_name\t\tnumber_of_images", *(f"{name}\t\t12 (8)" for name in names)])


def cars(tree: Tree) -> None:
    names = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012")
    box = [(name, "O") for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")]
    listed: dict[str, list[tuple[Any, ...]]] = {"train": [], "test": []}
    for part, label, number in tree.pictures(lambda part, c, n: f"cars_{part}/{n + 1:05}.jpg"):
        listed[part].append((1, 1, 60, 60, label + 1, f"{number + 1:05}.jpg"))
    labelled = [*box, ("class", "O"), ("fname", "O")]
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        tree.matrix(file, {"annotations": np.array(listed[part], dtype=labelled)})
    bare = np.array([(*entry[:4], entry[5]) for entry in listed["test"]], dtype=[*box, ("fname", "O")])
    tree.matrix("devkit/cars_test_annos.mat", {"annotations": bare})
    tree.matrix("devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object)})


def cub200(tree: Tree) -> None:
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "200.Common_Yellowthroat")
    found = tree.pictures(lambda part, c, n: f"images/{names[c]}/{part}_{n:04}_18.jpg")
    lines = {
        "images": [f"{names[label]}/{part}_{number:04}_18.jpg" for part, label, number in found],
        "image_class_labels": [str(label + 1) for _, label, _ in found],
        "train_test_split": [str(int(part == "train")) for part, *_ in found],
        "classes": list(names),
    }
    for name, values in lines.items():
        tree.text(f"{name}.txt", [f"{number} {value}" for number, value in enumerate(values, 1)])


TREES: dict[str, tuple[str, Callable[[Tree], None]]] = {
    "food101": ("food-101", food101),
    "dtd": ("dtd", dtd),
    "stanford40": ("Stanford40", stanford40),
    "stanford-cars": ("stanford_cars", cars),
    "cub200": ("CUB_200_2011", cub200),
}
"""From a set's name to the folder that its archive unpacks to, and what writes one."""
