"""A dataset as several tasks: its classes in parts, such as the makes of the cars in three."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from snow.data import Dataset, Pictures, Task
from snow.data.task import ContentDigests
from snow.errors import SnowError

PATTERN = re.compile(r"(?P<key>.+)-(?P<number>[1-9])of(?P<count>[2-9])")
"""Key of a part: `cars196-own-split-1of3`."""


class ClassPart(NamedTuple):
    """Part `number` of `count`, counted from 1."""

    number: int
    count: int


def parse_part(key: str) -> tuple[str, ClassPart] | None:
    """Split the key of a part into that of its dataset and the part; None if it is no such key."""
    found = PATTERN.fullmatch(key)
    part = found and ClassPart(int(found["number"]), int(found["count"]))
    return (found["key"], part) if found and part and part.number <= part.count else None


def part_classes(classes: Sequence[str], part: ClassPart) -> list[int]:
    """Choose the classes of a part: indices, ascending.

    Classes with the same first word, such as the makes of cars, stay together. The groups are taken in the order of
    their first class, and a group belongs to the part in which its middle lies, so parts differ by less than a group.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        groups.setdefault(re.split(r"[ _]", name, maxsplit=1)[0], []).append(index)
    chosen, before = [], 0
    for group in groups.values():
        middle = (before + len(group) / 2) / len(classes)
        if int(middle * part.count) == part.number - 1:
            chosen += group
        before += len(group)
    return sorted(chosen)


def take_part(dataset: Dataset, name: str, part: ClassPart) -> Dataset:
    """Keep the pictures of a part's classes, as the one task `name`.

    Raises:
        SnowError: the dataset has not one task of classes, or the part has fewer than two classes or no test picture.
    """
    if len(dataset.tasks) != 1 or dataset.tasks[0].kind.name != "class":
        raise SnowError(f"{name}: only a dataset of one task of classes is split into parts")
    classes = dataset.tasks[0].classes
    chosen = part_classes(classes, part)
    task = Task(name, tuple(classes[index] for index in chosen))
    number = torch.full((len(classes),), -1)
    number[chosen] = torch.arange(len(chosen))

    def rows(pictures: Pictures) -> list[int]:
        return (number[pictures.labels[:, 0]] >= 0).nonzero()[:, 0].tolist()

    def taken(pictures: Pictures) -> Pictures:
        kept = pictures.subset(rows(pictures))
        return Pictures(kept.items, number[kept.labels[:, 0]], kept.transform)

    train, test, digests = taken(dataset.train), taken(dataset.test), dataset.digests
    if not len(test):
        raise SnowError(f"{name}: none of its classes has a test picture")
    if digests is not None:
        digests = ContentDigests(
            tuple(digests.train[row] for row in rows(dataset.train)),
            tuple(digests.test[row] for row in rows(dataset.test)),
            digests.held_out,
        )
    return replace(dataset, tasks=(task,), train=train, test=test, digests=digests)
