"""A CSV or Parquet file: a column `path`, a label column for each task and, if you like, a column `split`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from snow.data.cells import TableRow, read_columns, read_lines
from snow.data.decode import shown
from snow.data.labels import MISSING, clean_name, whole_numbers
from snow.data.rows import SPLITS, Listing, Opening, Row, Split, part_name
from snow.errors import SnowError

PATH, LABEL, SPLIT = "path", "label", "split"


def read_table(file: Path, task: str, labels: Sequence[str] | None, root: Path | None, opening: Opening) -> Listing:
    """Read rows with paths that start in the table's folder or in `root`; classes are the sorted training labels.

    Args:
        task: the task's name where there is one label column; several columns name their tasks themselves.
        labels: the label columns; by default `label`, or else the only column beside `path` and `split`.
        root: where relative paths start, and where all pictures must lie; by default the table's folder, and anywhere.

    Raises:
        SnowError: as in the rules of `snow.data`.
    """
    columns = read_columns(file)
    labels = _label_columns(file, columns, labels)
    has_split = SPLIT in columns
    lines, warnings = read_lines(file, [PATH, *labels, *([SPLIT] if has_split else [])])
    if not lines:
        raise SnowError(f"{shown(file)}: there are no rows under the header")
    lines = _with_labels(file, lines, labels, warnings)
    parts = _parts(file, lines, warnings, opening) if has_split else {line.where: None for line in lines}
    rows = _rows(file, [line for line in lines if line.where in parts], parts, len(labels), root, warnings)
    classes = []
    for t in range(len(labels)):
        names = {row.classes[t] for row, _ in rows if row.split != "test"} - {None}
        classes.append(tuple(sorted(map(str, names))))
    names = tuple(labels) if len(labels) > 1 else (task,)
    return Listing(names, tuple(classes), [row for row, usable in rows if usable], warnings, shown(file))


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


def _with_labels(file: Path, lines: Sequence[TableRow], labels: Sequence[str], warnings: list[str]) -> list[TableRow]:
    """Normalise labels, "" for those that mean "no label"; a warning for each column with such labels."""
    columns = [[line.cells[number] for line in lines] for number in range(1, 1 + len(labels))]
    for name, column in zip(labels, columns, strict=True):
        missing = sorted({cell for cell in column if cell in MISSING} - {""})
        if missing:
            count = sum(cell in missing for cell in column)
            words = ", ".join(missing)
            warnings.append(f"column {name!r} of {shown(file)}: {count} cells with {words} are taken for no label")
        column[:] = ["" if cell in MISSING else clean_name(cell) for cell in column]
        numbers = whole_numbers({cell for cell in column if cell})
        changed = sorted(cell for cell, number in numbers.items() if cell != number)
        if changed and set(numbers) & set(numbers.values()):
            warnings.append(
                f"column {name!r} of {shown(file)}: labels such as {changed[0]} are taken for whole numbers"
            )
        column[:] = [numbers.get(cell, cell) for cell in column]
    return [
        TableRow(line.where, (line.cells[0], *cells, *line.cells[1 + len(labels) :]))
        for line, *cells in zip(lines, *columns, strict=True)
    ]


def _parts(file: Path, lines: Sequence[TableRow], warnings: list[str], opening: Opening) -> Mapping[str, Split | None]:
    """Map each row that is in a part to its part, from the last cell."""
    named: dict[str, list[TableRow]] = {}
    for line in lines:
        name = part_name(line.cells[-1])
        if line.cells[-1] in MISSING:
            warnings.append(f"skipped {shown(file)}, {line.where}: the split is empty")
        elif name is None:
            known = ", ".join(SPLITS)
            raise SnowError(f"{shown(file)}, {line.where}: unknown split {line.cells[-1]!r}: use one of {known}")
        else:
            named.setdefault(name, []).append(line)
    used = {name for name in named if SPLITS[name] == "train"}
    if not used and (opening.for_training or not named):
        raise SnowError(f"{shown(file)}: no row is in the split 'train'")
    tests = [name for name in SPLITS if name in named and name not in used]
    for name in tests[1:]:
        warnings.append(f"ignored in {shown(file)}: {len(named[name])} rows of split {name!r}, {tests[0]!r} is used")
    if not tests and opening.for_training:
        share = f"{opening.test_fraction:.0%} of 'train' is held out for testing (seed {opening.seed})"
        warnings.append(f"no split 'test' or 'val' in {shown(file)}: {share}")
    used |= set(tests[:1])
    return {line.where: SPLITS[name] if tests else None for name in used for line in named[name]}


def _rows(
    file: Path,
    lines: Sequence[TableRow],
    parts: Mapping[str, Split | None],
    tasks: int,
    root: Path | None,
    warnings: list[str],
) -> list[tuple[Row, bool]]:
    """Make all rows, each with whether it can be used, and a warning for each that cannot.

    Raises:
        SnowError: a path has two different labels or splits; no picture is there at all.
    """
    rows: list[tuple[Row, bool]] = []
    first: dict[Path, Row] = {}
    absent = 0
    for line in lines:
        where = f"{shown(file)}, {line.where}"
        path = _located(file.parent if root is None else root, line.cells[0])
        row = Row(path, tuple(cell or None for cell in line.cells[1 : 1 + tasks]), parts[line.where])
        fault = _fault(line.cells[0], row, root)
        absent += fault is not None and not os.path.exists(path)
        if path in first and first[path] != row:
            raise SnowError(f"{where}: {line.cells[0]} is listed twice, with different labels or splits")
        if fault is None and path in first:
            fault = f"{shown(path)} is listed twice"
        if fault is not None:
            warnings.append(f"skipped {where}: {fault}")
        first[path] = row
        rows.append((row, fault is None))
    if absent == len(rows):
        folder = shown(file.parent if root is None else root)
        example = shown(str(rows[0][0].item))
        raise SnowError(f"{shown(file)}: no picture is there, as {example}: paths start in {folder}, or in root=FOLDER")
    return rows


def _located(folder: Path, cell: str) -> Path:
    """Find the file that a cell names: as it stands, with the slashes of Windows, or in another Unicode form."""
    spellings = [cell, PureWindowsPath(cell).as_posix()]
    spellings += [unicodedata.normalize(form, cell) for form in ("NFC", "NFD")]
    paths = [Path(os.path.normpath(folder / spelling)) for spelling in spellings]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def _fault(cell: str, row: Row, root: Path | None) -> str | None:
    if not cell:
        return "the path is empty"
    if not any(row.classes):
        return "there is no label"
    path = os.path.abspath(str(row.item))
    if root is not None:
        folder = os.path.abspath(root)
        if os.path.commonpath([folder, path]) != folder:
            return f"{shown(cell)} is outside {shown(root)}"
    return None if os.path.exists(path) else f"{shown(path)} does not exist"
