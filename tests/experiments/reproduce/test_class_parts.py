"""A dataset's classes in parts: every class is in one part, and makes stay together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snow.data import open_dataset
from snow.errors import SnowError
from snow.experiments.reproduce.class_parts import ClassPart, parse_part, part_classes, take_part

CARS = ("Audi A5", "Audi S4", "Audi TT", "BMW M3", "BMW M5", "Fiat 500", "Geo Metro", "Honda Civic", "Honda Jazz")


def test_keys_of_parts() -> None:
    assert parse_part("cars196-own-split-2of3") == ("cars196-own-split", ClassPart(2, 3))
    assert [parse_part(key) for key in ("cars196", "cars-4of3", "cars-0of3", "-1of3", "cars-1of1")] == [None] * 5


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_class_is_in_one_part_and_makes_stay_together(count: int) -> None:
    parts = [part_classes(CARS, ClassPart(number, count)) for number in range(1, count + 1)]
    assert sorted(index for part in parts for index in part) == list(range(len(CARS)))
    makes = [{CARS[index].split()[0] for index in part} for part in parts]
    assert sum(map(len, makes)) == len(set().union(*makes)) == 5


def test_a_part_has_the_pictures_of_its_classes_alone(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ("Audi_A5", "Audi_S4", "BMW_M3", "BMW_M5"), train=3, test=2)
    whole = open_dataset(folder, task="cars")
    part = take_part(whole, "second", ClassPart(2, 2))
    assert [task.name for task in part.tasks] == ["second"]
    assert part.tasks[0].classes == ("BMW_M3", "BMW_M5")
    for pictures, kept, count in ((part.train, part.digests.train, 6), (part.test, part.digests.test, 4)):  # ty: ignore[unresolved-attribute]
        assert len(pictures) == len(kept) == count
        for item, label in zip(pictures.items, pictures.labels[:, 0].tolist(), strict=True):
            assert isinstance(item, Path)
            assert item.parent.name == part.tasks[0].classes[label]
    with pytest.raises(SnowError, match="at least two classes"):
        take_part(whole, "ninth", ClassPart(9, 9))
