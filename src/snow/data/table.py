"""A table: a column `path`, a label column for each task and, if you like, a column `split`.

Tags may have a column of 0 and 1 each, named `TASK:TAG`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from snow.data.cells import TableRow, read_columns, read_lines
from snow.data.decode import path_hint, shown
from snow.data.label_cells import Kinds, detect, merge_tags, odd_among_numbers, read_cells, require_tasks
from snow.data.labels import MISSING, clean_name, whole_numbers
from snow.data.rows import NO_NUMBER, SPLITS, Listing, Opening, Row, Split, part_name
from snow.errors import SnowError
from snow.kinds import BadCellError, ClassKind, KindSpec, TagKind, kind_named

PATH, LABEL, SPLIT = "path", "label", "split"
NO_LABEL = "there is no label"
SHOWN = 3
"""Rows that are named of those with one fault."""


def read_table(
    file: Path, task: str, labels: Sequence[str] | None, root: Path | None, opening: Opening, kinds: Kinds
) -> Listing:
    """Read rows with paths that start in the table's folder or in `root`; classes are the sorted training labels.

    Args:
        task: the task's name where there is one label column; several columns name their tasks themselves.
        labels: the label columns; by default `label`, or else the only column beside `path` and `split`.
        root: where relative paths start, and where all pictures must lie; by default the table's folder, and anywhere.
        kinds: of label columns, as the user named them; those of the others are found from their cells.

    Raises:
        SnowError: as in the rules of `snow.data`.
    """
    columns = read_columns(file)
    labels = _label_columns(file, columns, labels)
    names = tuple(labels) if len(labels) > 1 else (task,)
    require_tasks(kinds, {*names, *labels})
    kinds = {
        label: kinds[key] for name, label in zip(names, labels, strict=True) for key in (name, label) if key in kinds
    }
    has_split = SPLIT in columns
    cells = {label: _cell_columns(columns, label) for label in labels}
    wanted = [PATH, *(column for group in cells.values() for column in group), *([SPLIT] if has_split else [])]
    lines, warnings = read_lines(file, wanted)
    if not lines:
        first = f" ({len(warnings)} skipped in all, first {warnings[0].removeprefix('skipped ')})" if warnings else ""
        raise SnowError(f"{shown(file)}: there are no rows under the header{first}")
    lines, specs = _with_labels(file, lines, cells, kinds, warnings)
    parts = _parts(file, lines, warnings, opening) if has_split else {line.where: None for line in lines}
    rows = _rows(file, [line for line in lines if line.where in parts], parts, len(labels), root, warnings)
    classes = []
    for t in range(len(labels)):
        present = {row.classes[t] for row, _ in rows if row.split != "test"} - {None}
        classes.append(tuple(sorted(map(str, present))))
    return Listing(names, tuple(classes), [row for row, usable in rows if usable], warnings, shown(file), specs)


def _label_columns(file: Path, columns: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    there = f"the columns are {', '.join(repr(name) for name in columns)}"
    if PATH not in columns:
        advice = f"rename the one with the files to {PATH!r}"
        raise SnowError(f"{shown(file)}: there is no column {PATH!r}; {there}: {advice}")
    others = list(dict.fromkeys(name.partition(":")[0] for name in columns if name not in (PATH, SPLIT)))
    others += [name for name in columns if name not in (PATH, SPLIT, *others)]
    chosen = list(labels or ([LABEL] if LABEL in others else [name for name in others if ":" not in name]))
    for name in chosen:
        if chosen.count(name) > 1:
            raise SnowError(f"{shown(file)}: label column {name!r} is named twice")
        if name not in others:
            raise SnowError(f"{shown(file)}: {name!r} cannot be a label column; {there}")
    if not chosen or (labels is None and len(chosen) > 1):
        raise SnowError(f"{shown(file)}: say which columns are labels, since none is named {LABEL!r}; {there}")
    return chosen


def _cell_columns(columns: Sequence[str], label: str) -> list[str]:
    """List the columns with the cells of a label: the one of its name, or one for each tag, `LABEL:TAG`."""
    return [label] if label in columns else [name for name in columns if name.startswith(f"{label}:")]


def _with_labels(
    file: Path, lines: Sequence[TableRow], columns: Mapping[str, Sequence[str]], kinds: Kinds, warnings: list[str]
) -> tuple[list[TableRow], tuple[KindSpec, ...]]:
    """Read labels, "" for those that mean "no label".

    Args:
        columns: label -> the columns with its cells.

    Returns:
        The lines with one cell for each label, and the kinds.
    """
    specs, labels, start = [], [], 1
    for label, group in columns.items():
        cells = {column: [line.cells[start + k] for line in lines] for k, column in enumerate(group)}
        start += len(group)
        try:
            spec, read = _read_label(file, label, cells, kinds.get(label), warnings)
        except BadCellError as error:
            where = ", ".join(lines[place].where for place in (error.place, *error.others[: SHOWN - 1]))
            where += f" and {len(error.others) + 1 - SHOWN} more" if len(error.others) >= SHOWN else ""
            hint = "" if label in kinds else f"; for classes: --kind {label}=class"
            raise SnowError(f"{shown(file)}, {where}: column {label!r}: {error.reason}{hint}") from None
        specs.append(spec)
        labels.append(read)
        if not any(read):
            raise SnowError(f"{shown(file)}: all cells of column {label!r} are empty: there is nothing to learn")
    rows = [
        TableRow(line.where, (line.cells[0], *read, *line.cells[start:]))
        for line, *read in zip(lines, *labels, strict=True)
    ]
    return rows, tuple(specs)


def _read_label(
    file: Path, label: str, cells: Mapping[str, list[str]], spec: KindSpec | None, warnings: list[str]
) -> tuple[KindSpec, list[str]]:
    """Read the cells of a label, of the kind that was named or is found, and warn of what was taken for granted."""
    tags = {column.partition(":")[2]: values for column, values in cells.items() if column != label}
    if tags:
        if spec is not None and spec.name != TagKind.name:
            raise SnowError(f"{shown(file)}: columns such as {next(iter(cells))!r} are tags: their kind is multi")
        return KindSpec(TagKind.name), merge_tags(tags)
    column = cells[label]
    guessed = detect(set(column)) if spec is None else spec
    if spec is None and guessed.name != ClassKind.name:
        warnings.append(
            f"column {label!r} of {shown(file)} is taken for kind {guessed.name}; for classes: --kind {label}=class"
        )
    if guessed.name == ClassKind.name:
        kind_named(guessed.name).read((), guessed.option)
        odd = odd_among_numbers(column) if spec is None else None
        if odd is not None:
            warnings.append(
                f"column {label!r} of {shown(file)} {NO_NUMBER} {odd!r} is not a number, as most others are: leave "
                f"such cells empty, and use --kind {label}=number"
            )
        return guessed, _class_names(file, label, column, warnings)
    return guessed, read_cells(guessed, column)


def _class_names(file: Path, name: str, column: Sequence[str], warnings: list[str]) -> list[str]:
    """Normalise names of classes, and warn of cells that mean "no label", and of whole numbers."""
    missing = sorted({cell for cell in column if cell in MISSING} - {""})
    if missing:
        count = sum(cell in missing for cell in column)
        words = ", ".join(missing)
        warnings.append(f"column {name!r} of {shown(file)}: {count} cells with {words} are taken for no label")
    names = ["" if cell in MISSING else clean_name(cell) for cell in column]
    numbers = whole_numbers({cell for cell in names if cell})
    changed = sorted(cell for cell, number in numbers.items() if cell != number)
    if changed and set(numbers) & set(numbers.values()):
        warnings.append(f"column {name!r} of {shown(file)}: labels such as {changed[0]} are taken for whole numbers")
    return [numbers.get(cell, cell) for cell in names]


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
        hint = path_hint(lines[0].cells[0]) or f": paths start in {folder}, or in root=FOLDER"
        raise SnowError(f"{shown(file)}: no picture is there, as {example}{hint}")
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
        return NO_LABEL
    path = os.path.abspath(str(row.item))
    if root is not None:
        folder = os.path.abspath(root)
        if os.path.commonpath([folder, path]) != folder:
            return f"{shown(cell)} is outside {shown(root)}"
    return None if os.path.exists(path) else f"{shown(path)} does not exist"
