"""From the cells of a label column to labels: which kind they are, what the user named, and what says "no label"."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from snow.data.labels import MISSING, clean_name, whole_numbers
from snow.errors import SnowError
from snow.kinds import BadCellError, ClassKind, GradeKind, KindSpec, NumberKind, TagKind, kind_named
from snow.kinds.quantity import is_measure, quantity, unit_key
from snow.kinds.tags import label_of

MOST_GRADES = 10
"""Different numbers, not all of them whole, that count as grades; with more they are a number."""

FEW = 0.1
"""Share of the different cells of a column up to which those that are no numbers are probably mistakes."""

_YES = frozenset({"1", "1.0", "true", "yes", "x", "y"})
_NO = frozenset({"0", "0.0", "false", "no", "n", "-"})

Kinds = Mapping[str, KindSpec]
"""Task -> the kind that the user named."""


def parse_kinds(kinds: Mapping[str, str] | None) -> Kinds:
    """Read kinds by task, such as `{"tags": "multi", "quality": "ordered:bad<fair<good"}`.

    Raises:
        NotFoundError: there is no such kind.
    """
    specs = {task: KindSpec.parse(text) for task, text in (kinds or {}).items()}
    for spec in specs.values():
        kind_named(spec.name)
    return specs


def require_tasks(kinds: Collection[str], tasks: Collection[str]) -> None:
    """Raises SnowError: a kind is named for a task that is not there. `kinds`: the tasks that kinds are named for."""
    for name in kinds:
        if name not in tasks:
            raise SnowError(f"a kind is given for {name!r}, and the tasks are {', '.join(tasks)}")


def detect(cells: Collection[str]) -> KindSpec:
    """Find the kind of labels: JSON lists and `|` are tags, numbers that are not all whole are a number or grades.

    Whole numbers may be codes, so they are classes, except where a unit such as `mm` says that they are not. Units that
    differ make a number, which is refused when it is read.
    """
    written = {cell for cell in cells if cell and cell not in MISSING}
    if any("|" in cell or (cell[0] == "[" and cell[-1] == "]") for cell in written):
        return KindSpec(TagKind.name)
    numbers = {cell: number for cell in map(clean_name, written) if (number := quantity(cell)) is not None}
    if not numbers or len(numbers) < len({clean_name(cell) for cell in written}):
        return KindSpec(ClassKind.name)
    units = {unit_key(number.unit) for number in numbers.values()}
    measures = {cell: is_measure(cell) for cell in numbers}
    if len(units) > 1:
        are_numbers = all(measures[cell] or not number.unit for cell, number in numbers.items())
        return KindSpec(NumberKind.name if are_numbers else ClassKind.name)
    if all(number.is_whole for number in numbers.values()) and not all(measures.values()):
        return KindSpec(ClassKind.name)
    return KindSpec(GradeKind.name if len(numbers) <= MOST_GRADES else NumberKind.name)


def odd_among_numbers(cells: Collection[str]) -> str | None:
    """Find a cell that alone, or nearly so, keeps a column from being numbers; None if there is none such."""
    written = sorted({clean_name(cell) for cell in cells if cell not in MISSING} - {""})
    numbers = [quantity(cell) for cell in written]
    fractions = sum(number is not None and not number.is_whole for number in numbers)
    odd = [cell for cell, number in zip(written, numbers, strict=True) if number is None]
    return odd[0] if fractions > MOST_GRADES and 0 < len(odd) <= FEW * len(written) else None


def read_cells(spec: KindSpec, cells: Sequence[str]) -> list[str]:
    """Turn the cells of a column into labels of a kind, "" for none.

    Raises:
        BadCellError: a cell is no label of this kind.
    """
    missing = MISSING - {"None"} if spec.name == TagKind.name else MISSING
    cleaned = ["" if cell in missing else clean_name(cell) for cell in cells]
    if spec.name == GradeKind.name:
        numbers = whole_numbers({cell for cell in cleaned if cell})
        cleaned = [numbers.get(cell, cell) for cell in cleaned]
    return [label or "" for label in kind_named(spec.name).read(cleaned, spec.option)]


def merge_tags(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Merge one column of 0 and 1 per tag into labels: tag -> cells.

    Raises:
        BadCellError: a cell is neither yes nor no.
    """
    labels = []
    for place, row in enumerate(zip(*columns.values(), strict=True)):
        states = {tag: _state(place, tag, cell) for tag, cell in zip(columns, row, strict=True)}
        labels.append(label_of(states) or "")
    return labels


def _state(place: int, tag: str, cell: str) -> bool | None:
    if cell in MISSING:
        return None
    if cell.lower() in _YES | _NO:
        return cell.lower() in _YES
    raise BadCellError(place, f"{cell!r} is neither 1 nor 0 for the tag {tag!r}")
