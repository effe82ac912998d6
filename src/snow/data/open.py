"""One way in for every kind of data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from snow.data.catalog import CATALOGS, is_catalog_name, read_catalog
from snow.data.cells import PARQUET, TEXT
from snow.data.decode import shown
from snow.data.folder import read_folder
from snow.data.pictures import Progress
from snow.data.published import PUBLISHED, published_name, read_published
from snow.data.rows import Listing, Opening, assemble
from snow.data.table import read_table
from snow.data.task import Dataset
from snow.errors import SnowError


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
) -> Dataset:
    """Open labelled pictures for training and testing; `snow.data` has the rules about bad data.

    Args:
        spec: a folder of class folders, a `.csv`, `.tsv` or `.parquet` file, a folder as the authors of one of the
            paper's data sets distribute it, or a name such as `torch/cifar10`, `hfds/OWNER/NAME` or `dtd:FOLDER`.
        task: the task's name; a table with several label columns names its tasks by its columns.
        labels: the label columns of a table.
        test_fraction: the part of each class held out for testing where the data has no test part.
        seed: draws that part.
        check: decode every picture once now. Without it a bad picture is an error when its turn comes.
        progress: called with (pictures checked, pictures there are) during the check.
        root: where the relative paths of a table start and all its pictures lie; or where the files of a named data
            set are kept; `dtd` with it is `dtd:FOLDER`.

    Raises:
        SnowError: there is nothing at `spec`, or it is refused by the rules.
    """
    if not 0 < test_fraction < 1:
        raise SnowError(f"a test fraction of {test_fraction} leaves no training or no test pictures: use 0.2, say")
    opening = Opening(test_fraction, seed, check, progress)
    return assemble(read_listing(spec, task, labels, None if root is None else Path(root), opening), opening)


def read_listing(
    spec: str | os.PathLike[str], task: str, labels: Sequence[str] | None, root: Path | None, opening: Opening
) -> Listing:
    """List the pictures of any kind of data with their class names, without reading them; see `open_dataset`."""
    path = Path(spec)
    suffix = path.suffix.lower()
    if labels is not None and suffix not in TEXT | PARQUET:
        raise SnowError(f"{shown(path)}: label columns are for a table (.csv, .tsv, .parquet)")
    if path.is_dir():
        if root is not None:
            raise SnowError(f"{shown(path)}: root is for a table or a named data set, not for a folder")
        known = next((published for published in PUBLISHED.values() if published.is_at(path)), None)
        return read_folder(path, task, opening) if known is None else read_published(known, path, task)
    if path.is_file() and suffix in TEXT | PARQUET:
        if root is not None and not root.is_dir():
            raise SnowError(f"{shown(root)}: there is no such folder")
        return read_table(path, task, labels, root, opening)
    if path.exists():
        raise SnowError(f"{shown(path)}: neither a folder nor a .csv, .tsv or .parquet file")
    if isinstance(spec, str) and is_catalog_name(spec):
        return read_catalog(spec, task, root, opening)
    if isinstance(spec, str) and (named := published_name(spec)) is not None:
        known, folder = named
        if not folder and root is None:
            raise SnowError(f"{known.name} needs the folder that it is in: {known.name}:FOLDER; {known.where_to_get}")
        return read_published(known, Path(folder or root or ""), task)
    names = " or ".join([*(f"{name}/" for name in CATALOGS), *(f"{name}:" for name in PUBLISHED)])
    raise SnowError(f"{shown(path)}: there is no such folder or file, and it is no name that starts with {names}")
