"""What is learned: a task has a name and classes; a data set has tasks and labelled pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

from snow.data.labels import require_text
from snow.data.pictures import Pictures
from snow.errors import SnowError


@dataclass(frozen=True)
class Task:
    """One image-classification task. Class k of the labels is `classes[k]`.

    Raises:
        SnowError: a name that cannot be a folder's, fewer than two classes, a class named twice or "", a name that is
            not text in UTF-8.
    """

    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.name.strip() or self.name.startswith(".") or any(mark in self.name for mark in "/\\\0\n"):
            raise SnowError(f"{self.name!r} cannot name a task: use a name that could be a folder's")
        if len(self.classes) < 2:
            number = f"only {self.classes[0]!r}" if self.classes else "none"
            raise SnowError(f"task {self.name!r} needs at least two classes, and there is {number}")
        if not all(self.classes):
            raise SnowError(f"task {self.name!r} has a class without a name")
        for name in (self.name, *self.classes):
            require_text(name, "task" if name is self.name else f"task {self.name!r} has a class whose name")
        name, count = Counter(self.classes).most_common(1)[0]
        if count > 1:
            raise SnowError(f"task {self.name!r} has {count} classes named {name!r}")


class ContentDigests(NamedTuple):
    """SHA-256 of every picture's content, in the order of the pictures.

    Attributes:
        held_out: whether the test pictures were drawn from data that has no test part.
    """

    train: tuple[bytes, ...]
    test: tuple[bytes, ...]
    held_out: bool


@dataclass(frozen=True)
class Dataset:
    """The pictures of one or several tasks: each has one label per task, -1 where a task has none for it.

    `warnings` holds one line for each picture, row or folder that was left out, and why. `digests` is None where the
    pictures were not looked at.

    Raises:
        SnowError: labels that do not fit the tasks.
    """

    tasks: tuple[Task, ...]
    train: Pictures
    test: Pictures
    warnings: tuple[str, ...] = ()
    digests: ContentDigests | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise SnowError("a data set needs at least one task")
        for split, pictures in (("training", self.train), ("test", self.test)):
            width = pictures.labels.shape[1]
            if width != len(self.tasks):
                raise SnowError(f"the {split} pictures have {width} labels each for {len(self.tasks)} tasks")
            for column, task in zip(pictures.labels.unbind(1), self.tasks, strict=True):
                if column.numel() and not -1 <= column.min() <= column.max() < len(task.classes):
                    raise SnowError(f"a {split} label of task {task.name!r} is outside -1..{len(task.classes) - 1}")

    def held_out(self, fraction: float, seed: int) -> Dataset:
        """Split the training pictures in two, to compare settings without the test pictures.

        Args:
            fraction: of the training pictures that takes the place of the test pictures.

        Raises:
            SnowError: as `Pictures.split`.
        """
        rest, part = self.train.split(fraction, seed)
        return replace(self, train=rest, test=part, digests=None)
