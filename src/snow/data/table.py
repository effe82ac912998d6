"""A CSV or Parquet file: a column `path`, a label column for each task and, if you like, a column `split`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from snow.data.cells import TableRow, read_columns, read_lines
from snow.data.decode import shown
from snow.data.rows import SPLITS, Opening, Row, Split, assemble
from snow.data.task import Dataset, Task
from snow.errors import SnowError

PATH, LABEL, SPLIT = "path", "label", "split"


def open_table(file: Path, task: str, labels: Sequence[str] | None, opening: Opening) -> Dataset:
    """Paths are relative to the table's folder and lie in it; classes are the sorted labels for training.

    Args:
        task: the task's name where there is one label column; several columns name their tasks themselves.
        labels: the label columns; by default `label`, or else the only column beside `path` and `split`.

    Raises:
        SnowError: as in the rules of `snow.data`.
    """
    columns = read_columns(file)
    labels = _label_columns(file, columns, labels)
    has_split = SPLIT in columns
    lines, warnings = read_lines(file, [PATH, *labels, *([SPLIT] if has_split else [])])
    if not lines:
        raise SnowError(f"{shown(file)}: there are no rows under the header")
    parts = _parts(file, lines, warnings, opening) if has_split else {line.where: None for line in lines}
    rows = _rows(file, [line for line in lines if line.where in parts], parts, len(labels), warnings)
    tasks = []
    for t, label in enumerate(labels):
        classes = {row.classes[t] for row, _ in rows if row.split != "test"} - {None}
        tasks.append(Task(label if len(labels) > 1 else task, tuple(sorted(map(str, classes)))))
    return assemble(tasks, [row for row, usable in rows if usable], warnings, opening, shown(file))


def _label_columns(file: Path, columns: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    there = f"the columns are {', '.join(repr(name) for name in columns)}"
    if PATH not in columns:
        raise SnowError(f"{shown(file)}: there is no column {PATH!r}; {there}")
    others = [name for name in columns if name not in (PATH, SPLIT)]
    chosen = list(labels or ([LABEL] if LABEL in others else others))
    for name in chosen:
        if name not in others or chosen.count(name) > 1:
            raise SnowError(f"{shown(file)}: {name!r} cannot be a label column; {there}")
    if not chosen or (labels is None and len(chosen) > 1):
        raise SnowError(f"{shown(file)}: say which columns are labels, since none is named {LABEL!r}; {there}")
    return chosen


def _parts(file: Path, lines: Sequence[TableRow], warnings: list[str], opening: Opening) -> Mapping[str, Split | None]:
    """The part of every row that is in one, from the last cell."""
    named: dict[str, list[TableRow]] = {}
    for line in lines:
        name = line.cells[-1].lower()
        if not name:
            warnings.append(f"skipped {shown(file)}, {line.where}: the split is empty")
        elif name not in SPLITS:
            known = ", ".join(SPLITS)
            raise SnowError(f"{shown(file)}, {line.where}: unknown split {line.cells[-1]!r}: use one of {known}")
        else:
            named.setdefault(name, []).append(line)
    used = {name for name in named if SPLITS[name] == "train"}
    if not used:
        raise SnowError(f"{shown(file)}: no row is in the split 'train'")
    tests = [name for name in SPLITS if name in named and name not in used]
    for name in tests[1:]:
        warnings.append(f"ignored in {shown(file)}: {len(named[name])} rows of split {name!r}, {tests[0]!r} is used")
    if not tests:
        share = f"{opening.test_fraction:.0%} of 'train' is held out for testing (seed {opening.seed})"
        warnings.append(f"no split 'test' or 'val' in {shown(file)}: {share}")
    used |= set(tests[:1])
    return {line.where: SPLITS[name] if tests else None for name in used for line in named[name]}


def _rows(
    file: Path, lines: Sequence[TableRow], parts: Mapping[str, Split | None], tasks: int, warnings: list[str]
) -> list[tuple[Row, bool]]:
    """Every row, and whether it can be used; a line for each that cannot."""
    rows: list[tuple[Row, bool]] = []
    seen: dict[Path, Row] = {}
    for line in lines:
        where = f"{shown(file)}, {line.where}"
        path = Path(os.path.normpath(file.parent / line.cells[0]))
        row = Row(path, tuple(cell or None for cell in line.cells[1 : 1 + tasks]), parts[line.where])
        fault = _fault(file, line.cells[0], row)
        if path in seen and seen[path] != row:
            raise SnowError(f"{where}: {line.cells[0]} is listed twice, with different labels or splits")
        if fault is None and path in seen:
            fault = f"{shown(path)} is listed twice"
        if fault is not None:
            warnings.append(f"skipped {where}: {fault}")
        seen[path] = row
        rows.append((row, fault is None))
    return rows


def _fault(file: Path, cell: str, row: Row) -> str | None:
    if not cell:
        return "the path is empty"
    if not any(row.classes):
        return "there is no label"
    folder, path = os.path.abspath(file.parent), os.path.abspath(str(row.item))
    if os.path.commonpath([folder, path]) != folder:
        return f"{shown(cell)} is outside {shown(file.parent)}"
    return None if os.path.exists(path) else f"{shown(path)} does not exist"
