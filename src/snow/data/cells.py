"""The cells of a CSV, JSON Lines, Parquet or Excel file as text."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from snow.data.decode import shown
from snow.errors import SnowError

PARQUET = frozenset({".parquet", ".pq"})
TEXT = frozenset({".csv", ".tsv"})
JSON_LINES = frozenset({".jsonl", ".ndjson"})
EXCEL = frozenset({".xlsx", ".xlsm"})
TABLES = TEXT | JSON_LINES | PARQUET | EXCEL
DELIMITERS = (",", ";", "\t")


class TableRow(NamedTuple):
    """The wanted cells of one row, an empty one as "", and where the row stands (`line 7`)."""

    where: str
    cells: tuple[str, ...]


def read_columns(file: Path) -> list[str]:
    """Read the names of the columns.

    Raises:
        SnowError: the file cannot be read, is empty, or is damaged, or a package is missing.
    """
    suffix = file.suffix.lower()
    if suffix in PARQUET:
        columns = list(_parquet(file).schema_arrow.names)
    elif suffix in JSON_LINES:
        columns = list(dict.fromkeys(name for _, record in _json_lines(file) for name in record))
    elif suffix in EXCEL:
        columns = _excel(file)[0]
    else:
        columns = _records(file)[0][1]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise SnowError(f"{shown(file)}: there is more than one column {twice[0]!r}")
    return columns


def read_lines(file: Path, columns: Sequence[str]) -> tuple[list[TableRow], list[str]]:
    """Read the cells of `columns`, and a warning for every row that does not fit the header and is skipped.

    Raises:
        SnowError: as `read_columns`; a cell of a Parquet file that is neither text nor a number.
    """
    suffix = file.suffix.lower()
    if suffix in JSON_LINES:
        return [
            TableRow(f"line {n}", tuple(_text(file, n, record.get(name)) for name in columns))
            for n, record in _json_lines(file)
        ], []
    if suffix in EXCEL:
        header, *rows = _excel(file)
        places = [header.index(name) for name in columns]
        return [
            TableRow(f"row {n}", tuple(_text(file, n, row[place]) for place in places))
            for n, row in enumerate(rows, 2)
            if any(cell is not None for cell in row)
        ], []
    if suffix in PARQUET:
        read = _parquet(file).read(columns=list(columns)).to_pydict()
        values = zip(*(read[name] for name in columns), strict=True)
        return [
            TableRow(f"row {n}", tuple(_text(file, n, cell) for cell in row)) for n, row in enumerate(values, 1)
        ], []
    (_, header), *records = _records(file)
    wanted = [header.index(name) for name in columns]
    lines: list[TableRow] = []
    warnings: list[str] = []
    for number, record in records:
        if len(record) == len(header):
            lines.append(TableRow(f"line {number}", tuple(record[index].strip() for index in wanted)))
        else:
            fault = f"{len(record)} cells under a header of {len(header)}"
            warnings.append(f"skipped {shown(file)}, line {number}: {fault}")
    return lines, warnings


def _records(file: Path) -> list[tuple[int, list[str]]]:
    """Read line number and cells of the header and of every row that is not blank."""
    reader = None
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            header = text.readline()
            text.seek(0)
            delimiter = max(DELIMITERS, key=header.count)
            reader = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
            records = [(reader.line_num, record) for record in reader if any(cell.strip() for cell in record)]
    except UnicodeDecodeError as error:
        raise SnowError(f"{shown(file)}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except csv.Error as error:
        where = "" if reader is None else f" in line {reader.line_num}"
        raise SnowError(f"{shown(file)}: not a CSV file ({error}{where})") from None
    except OSError as error:
        raise SnowError(f"{shown(file)}: cannot be read ({error.strerror or error})") from None
    if not records:
        raise SnowError(f"{shown(file)}: the file is empty")
    number, header_cells = records[0]
    return [(number, [cell.strip() for cell in header_cells]), *records[1:]]


def _parquet(file: Path) -> Any:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise SnowError(f"{shown(file)}: Parquet needs pyarrow: pip install 'snow-cnn[parquet]'") from None
    try:
        return parquet.ParquetFile(file)
    except Exception as error:
        raise SnowError(f"{shown(file)}: not a readable Parquet file ({error})") from None


def _json_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read line number and object of every line that is not blank."""
    number = 0
    try:
        records = []
        for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), 1):
            if line.strip():
                records.append((number, json.loads(line)))
    except UnicodeDecodeError as error:
        raise SnowError(f"{shown(file)}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except (ValueError, RecursionError):
        raise SnowError(f"{shown(file)}: line {number} is not JSON: each line is one object") from None
    except OSError as error:
        raise SnowError(f"{shown(file)}: cannot be read ({error.strerror or error})") from None
    if not records:
        raise SnowError(f"{shown(file)}: the file is empty")
    for number, record in records:
        if not isinstance(record, dict):
            raise SnowError(f"{shown(file)}: line {number} is not an object: each line is one object")
    return records


def _excel(file: Path) -> list[list[Any]]:
    """Read the rows of the first sheet, the header first."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise SnowError(f"{shown(file)}: Excel needs openpyxl: pip install 'snow-cnn[excel]'") from None
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # a damaged archive may raise anything
        raise SnowError(f"{shown(file)}: not a readable Excel file ({error})") from None
    if not rows:
        raise SnowError(f"{shown(file)}: the file is empty")
    width = max(map(len, rows))
    header = ["" if cell is None else str(cell).strip() for cell in rows[0]]
    return [header, *([*row, *[None] * (width - len(row))] for row in rows[1:])]


def _text(file: Path, number: int, cell: object) -> str:
    if isinstance(cell, list):
        return json.dumps(cell, ensure_ascii=False)
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (str, int, float)):
        return str(cell).strip()
    raise SnowError(f"{shown(file)}, row {number}: a cell of type {type(cell).__name__} is neither text nor a number")
