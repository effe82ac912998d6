"""What is learned: a task has a name and a kind of label; a data set has tasks and labelled pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snow.data.labels import require_text
from snow.data.pictures import Pictures
from snow.errors import SnowError
from snow.kinds import ClassKind, LabelKind, saved_labels


@dataclass(frozen=True)
class Task:
    """One task. Label k of the pictures is `labels[k]`.

    Attributes:
        name: of the task.
        classes: names of classes, tags or grades, in the order of the answer; () for a number.
        kind: what the labels are; by default each is one of `classes`.
        labels: the different labels of the data, as text; by default `classes`.

    Raises:
        SnowError: a name that cannot be a folder's, fewer than two classes, a class named twice or "", a name that is
            not text in UTF-8.
    """

    name: str
    classes: tuple[str, ...]
    kind: LabelKind = field(default=None, repr=False)  # ty: ignore[invalid-assignment]  set below
    labels: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "kind", self.kind or ClassKind(self.classes))
        object.__setattr__(self, "labels", tuple(self.labels) or self.classes)
        if not self.name.strip() or self.name.startswith(".") or any(mark in self.name for mark in "/\\\0\n"):
            raise SnowError(f"{self.name!r} cannot name a task: use a name that could be a folder's")
        if isinstance(self.kind, ClassKind) and len(self.classes) < 2:
            number = f"only {self.classes[0]!r}" if self.classes else "none"
            raise SnowError(f"task {self.name!r} needs at least two classes, and there is {number}")
        if not all(self.classes):
            raise SnowError(f"task {self.name!r} has a class without a name")
        for name in (self.name, *self.classes):
            require_text(name, "task" if name is self.name else f"task {self.name!r} has a class whose name")
        name, count = Counter(self.classes or ("",)).most_common(1)[0]
        if count > 1:
            raise SnowError(f"task {self.name!r} has {count} classes named {name!r}")

    @cached_property
    def targets(self) -> Tensor | None:
        """What a method learns of each label: (M, W), NaN where nothing is known; None: the label's number."""
        return self.kind.targets(self.labels)

    @cached_property
    def strata(self) -> Tensor:
        """Stratum of each label: (M,); each is divided alike between training and test pictures."""
        return torch.tensor(self.kind.strata(self.labels), dtype=torch.int64)

    def to_dict(self) -> list[Any]:
        """Return what identifies the task in a digest of its data, as JSON values."""
        described = saved_labels(self.kind)
        return [self.name, self.classes, *([described, self.labels] if described else [])]


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
    """The pictures of one or several tasks: each has the number of a label per task, -1 where a task has none for it.

    `warnings` holds one line for each picture, row or folder that was left out, and why. `digests` is None where the
    pictures were not looked at. `crop_warning` counts the pictures that lose much where a square is cropped from them;
    it is empty if there are none.

    Raises:
        SnowError: labels that do not fit the tasks.
    """

    tasks: tuple[Task, ...]
    train: Pictures
    test: Pictures
    warnings: tuple[str, ...] = ()
    digests: ContentDigests | None = None
    crop_warning: str = ""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise SnowError("a data set needs at least one task")
        for split, pictures in (("training", self.train), ("test", self.test)):
            width = pictures.labels.shape[1]
            if width != len(self.tasks):
                raise SnowError(f"the {split} pictures have {width} labels each for {len(self.tasks)} tasks")
            for column, task in zip(pictures.labels.unbind(1), self.tasks, strict=True):
                if column.numel() and not -1 <= column.min() <= column.max() < len(task.labels):
                    raise SnowError(f"a {split} label of task {task.name!r} is outside -1..{len(task.labels) - 1}")

    def warnings_for(self, resize: str) -> tuple[str, ...]:
        """List the warnings for a source that resizes pictures in one way of `snow.source.preprocessing.RESIZES`."""
        return (*self.warnings, self.crop_warning) if resize == "crop" and self.crop_warning else self.warnings

    def held_out(self, fraction: float, seed: int) -> Dataset:
        """Split the training pictures in two, to compare settings without the test pictures.

        Args:
            fraction: of the training pictures that takes the place of the test pictures.

        Raises:
            SnowError: as `Pictures.split`.
        """
        rest, part = self.train.split(fraction, seed, strata_of(self.tasks, self.train.labels))
        return replace(self, train=rest, test=part, digests=None)


def strata_of(tasks: Sequence[Task], labels: Tensor) -> Tensor:
    """Map labels to their strata, -1 where there is none: (n, T) -> (n, T)."""
    columns = [
        torch.where(column >= 0, task.strata[column], -1) if len(task.strata) else column
        for task, column in zip(tasks, labels.unbind(1), strict=True)
    ]
    return torch.stack(columns, 1)
