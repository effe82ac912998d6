"""One way in for every kind of data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from snow.data.catalog import CATALOGS, is_catalog_name, read_catalog
from snow.data.cells import TABLES
from snow.data.decode import path_hint, shown
from snow.data.folder import read_folder
from snow.data.label_cells import Kinds, parse_kinds, read_cells, require_tasks
from snow.data.pictures import Progress
from snow.data.published import PUBLISHED, published_name, read_published
from snow.data.rows import Listing, Opening, assemble
from snow.data.table import read_table
from snow.data.task import Dataset
from snow.errors import MismatchError, SnowError
from snow.kinds import BadCellError, KindSpec

ADVICE = {
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"): ": unpack the archive first",
    (".xls", ".ods", ".txt", ".json"): ": save the table as CSV",
}
"""Suffixes of files that hold data in another form -> what to do."""


def open_dataset(
    spec: str | os.PathLike[str],
    *,
    task: str = "task",
    labels: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    check: bool = True,
    progress: Progress | None = None,
    root: str | os.PathLike[str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Dataset:
    """Open labelled pictures for training and testing; `snow.data` has the rules about bad data.

    Args:
        spec: a folder of class folders, a `.csv`, `.tsv`, `.jsonl`, `.parquet` or `.xlsx` file, a folder as the authors
            of one of the paper's data sets distribute it, or a name such as `torch/cifar10`, `hfds/OWNER/NAME` or
            `dtd:FOLDER`.
        task: the task's name; a table with several label columns names its tasks by its columns.
        labels: the label columns of a table.
        test_fraction: the part of each class held out for testing where the data has no test part.
        seed: draws that part.
        check: decode every picture once now. Without it a bad picture is an error when its turn comes.
        progress: called with (pictures checked, pictures there are) during the check.
        root: where the relative paths of a table start and all its pictures lie; or where the files of a named data
            set are kept; `dtd` with it is `dtd:FOLDER`.
        kinds: kinds of labels by task, such as `{"tags": "multi", "year": "number", "quality": "ordered:bad<good"}`;
            those of the others are found from the data. See `snow.kinds.KINDS`.

    Raises:
        SnowError: there is nothing at `spec`, or it is refused by the rules.
    """
    if not 0 < test_fraction < 1:
        raise SnowError(f"a test fraction of {test_fraction} leaves no training or no test pictures: use 0.2, say")
    opening = Opening(test_fraction, seed, check, progress)
    folder = None if root is None else Path(root)
    return assemble(read_listing(spec, task, labels, folder, opening, parse_kinds(kinds)), opening)


def read_listing(
    spec: str | os.PathLike[str],
    task: str,
    labels: Sequence[str] | None,
    root: Path | None,
    opening: Opening,
    kinds: Kinds,
) -> Listing:
    """List the pictures of any kind of data with their labels, without reading them; see `open_dataset`."""
    listing = _read(spec, task, labels, root, opening, kinds)
    if listing.kinds:
        return listing
    require_tasks(kinds, listing.tasks)
    return _as_kind(listing, kinds[task]) if task in kinds else listing


def _as_kind(listing: Listing, spec: KindSpec) -> Listing:
    """Read the class names of data with one task as labels of another kind."""
    try:
        labels = read_cells(spec, [row.classes[0] or "" for row in listing.rows])
    except BadCellError as error:
        item = listing.rows[error.place].item if listing.rows else ""
        raise MismatchError(f"{listing.source}: {shown(str(item))}: {error.reason}") from None
    rows = [replace(row, classes=(label or None,)) for row, label in zip(listing.rows, labels, strict=True)]
    return replace(listing, rows=rows, kinds=(spec,))


def _read(
    spec: str | os.PathLike[str],
    task: str,
    labels: Sequence[str] | None,
    root: Path | None,
    opening: Opening,
    kinds: Kinds,
) -> Listing:
    path = Path(spec)
    suffix = path.suffix.lower()
    if labels is not None and suffix not in TABLES:
        raise SnowError(f"{shown(path)}: label columns are for a table (.csv, .tsv, .jsonl, .parquet, .xlsx)")
    if path.is_dir():
        if root is not None:
            raise SnowError(f"{shown(path)}: root is for a table or a named data set, not for a folder")
        known = next((published for published in PUBLISHED.values() if published.is_at(path)), None)
        return read_folder(path, task, opening) if known is None else read_published(known, path, task)
    if path.is_file() and suffix in TABLES:
        if root is not None and not root.is_dir():
            raise SnowError(f"{shown(root)}: there is no such folder")
        return read_table(path, task, labels, root, opening, kinds)
    if path.exists():
        advice = next((advice for suffixes, advice in ADVICE.items() if suffix in suffixes), "")
        raise SnowError(f"{shown(path)}: neither a folder nor a .csv, .tsv, .jsonl, .parquet or .xlsx file{advice}")
    if isinstance(spec, str) and is_catalog_name(spec):
        return read_catalog(spec, task, root, opening)
    if isinstance(spec, str) and (named := published_name(spec)) is not None:
        known, folder = named
        if not folder and root is None:
            raise SnowError(f"{known.name} needs the folder that it is in: {known.name}:FOLDER; {known.where_to_get}")
        return read_published(known, Path(folder or root or ""), task)
    names = " or ".join([*(f"{name}/" for name in CATALOGS), *(f"{name}:" for name in PUBLISHED)])
    hint = path_hint(path) or f", and it is no name that starts with {names}"
    raise SnowError(f"{shown(path)}: there is no such folder or file{hint}")
