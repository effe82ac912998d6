"""The option `--kind`, and how figures of a kind of label are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from snow.cli.options import Names
from snow.cli.output import counting, note
from snow.data import Dataset, Task, open_dataset
from snow.errors import SnowError
from snow.kinds import ClassKind, KindSpec, LabelKind, kind_named

SHOWN = 2
"""Figures of a kind that a table shows."""

Kinds = Annotated[Names, Parameter(name="--kind")]


def read_kinds(options: Sequence[str]) -> dict[str, str]:
    """Read `TASK=KIND` or `TASK=KIND:OPTION`.

    Raises:
        SnowError: not of this form, a task twice, or there is no such kind.
    """
    kinds: dict[str, str] = {}
    for option in options:
        task, equals, kind = option.partition("=")
        if not task or not equals:
            raise SnowError(f"--kind takes TASK=KIND such as tags=multi, not {option!r}")
        if task in kinds:
            raise SnowError(f"--kind names {task!r} twice")
        kind_named(KindSpec.parse(kind).name)
        kinds[task] = kind
    return kinds


def open_one_task(
    data: str,
    label: str | None,
    kind: Sequence[str],
    root: Path | None,
    test_fraction: float,
    seed: int,
    resize: str | None,
) -> Dataset:
    """Open the data of a command that works on one task, and print its warnings on stderr."""
    with counting("checking images") as progress:
        dataset = open_dataset(
            data,
            task=label or "task",
            labels=None if label is None else [label],
            test_fraction=test_fraction,
            seed=seed,
            progress=progress,
            kinds=read_kinds(kind),
            root=root,
        )
    for warning in dataset.warnings_for(resize or "crop"):
        note(f"warning: {warning}")
    show_kinds(dataset.tasks)
    return dataset


def show_kinds(tasks: Sequence[Task]) -> None:
    """Say on stderr what the labels of each task are, unless all of them are classes."""
    if any(not isinstance(task.kind, ClassKind) for task in tasks):
        for task in tasks:
            note(f"task {task.name}: {task.kind.describe()}")


def figures_text(kind: LabelKind, figures: Mapping[str, Any]) -> str:
    """Write the first figures of a kind: `top-1 91.2 %, top-5 99.0 %`."""
    shown = list(zip(kind.figures, kind.figure_texts(figures), strict=True))[:SHOWN]
    return ", ".join(f"{figure.title} {text}" for figure, text in shown if text)
