"""Data sets by name, through timm: `torch/NAME` of torchvision, `hfds/OWNER/NAME` of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

from PIL import Image

from snow.data.decode import shown
from snow.data.rows import Listing, Opening, Row, Split
from snow.errors import SnowError

CATALOGS = ("torch", "hfds")
STREAMS = ("wds", "hfids", "tfds")
FOLDER = Path("~/.cache/snow/datasets")
"""Where torchvision's data sets are kept unless another folder is given."""


@dataclass(frozen=True)
class Entry:
    """Gives picture `index` of a data set as a Pillow image when called."""

    source: Any = field(repr=False)
    index: int
    name: str

    def __call__(self) -> Image.Image:
        image = self.source[self.index][0]
        return image if isinstance(image, Image.Image) else Image.open(image)

    def __str__(self) -> str:
        return f"{self.name}, picture {self.index}"


def is_catalog_name(spec: str) -> bool:
    """Whether `spec` starts with the name of a catalogue and a slash."""
    prefix, slash, _ = spec.partition("/")
    return bool(slash) and prefix.lower() in CATALOGS + STREAMS


def read_catalog(spec: str, task: str, root: Path | None, opening: Opening) -> Listing:
    """List a named data set as one task with its own classes in its own order; downloads it unless the files are there.

    Raises:
        SnowError: it cannot be loaded (the reason is in the message), or is a stream; else as in the rules of
            `snow.data`.
    """
    prefix, _, name = spec.partition("/")
    if prefix.lower() in STREAMS:
        raise SnowError(f"{spec}: a stream has no order to train in twice: save it as a folder of class folders")
    if prefix.lower() == "hfds" and importlib.util.find_spec("datasets") is None:
        raise SnowError(f"{spec}: Hugging Face data sets need the package datasets: pip install datasets")
    if prefix.lower() == "torch" and name.lower() in ("folder", "image_folder"):
        raise SnowError(f"{spec}: give the folder itself instead")
    train = _load(spec, "train", root)
    test = _load_test(spec, root)
    names = train.classes or tuple(sorted({str(label) for label in train.labels}))
    warnings: list[str] = []
    rows = _rows(train, names, "train" if test else None, warnings)
    if test is not None:
        rows += _rows(test, names, "test", warnings)
    elif opening.for_training:
        share = f"{opening.test_fraction:.0%} of 'train' is held out for testing (seed {opening.seed})"
        warnings.append(f"no split 'test' or 'validation' in {spec}: {share}")
    return Listing((task,), (names,), rows, warnings, spec)


@dataclass(frozen=True)
class CatalogPart:
    """One split: `source[k]` is a pair whose first is the picture, `labels[k]` a class number or name."""

    source: Any
    labels: Sequence[object]
    classes: tuple[str, ...]
    name: str


def _load_test(spec: str, root: Path | None) -> CatalogPart | None:
    """The test split, else the validation split, else None; torchvision has both under one name in timm."""
    if spec.lower().startswith("torch/"):
        return _load(spec, "validation", root)
    for split in ("test", "validation"):
        with suppress(MissingSplit):
            return _load(spec, split, root)
    return None


class MissingSplit(Exception):  # noqa: N818  not an error: the next name is tried
    """The data set has no such split."""


def _load(spec: str, split: str, root: Path | None) -> CatalogPart:
    from timm.data import create_dataset

    torchvision = spec.lower().startswith("torch/")
    folder = (root or FOLDER).expanduser() if torchvision else root
    try:
        with redirect_stdout(sys.stderr):
            dataset = create_dataset(
                spec, root=None if folder is None else str(folder), split=split, download=torchvision
            )
            return _part(dataset, f"{spec} {split}")
    except Exception as error:
        if isinstance(error, ValueError) and "unknown split" in str(error).lower():
            raise MissingSplit from None
        reason = shorten(str(error) or type(error).__name__, 200)
        where = f" or the files in {shown(folder)}" if folder else ""
        raise SnowError(f"{spec}: cannot be loaded; it needs a network connection{where} ({reason})") from None


def _part(dataset: Any, name: str) -> CatalogPart:
    if hasattr(dataset, "reader"):
        reader = dataset.reader
        classes = tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
        return CatalogPart(reader, list(reader.dataset[reader.label_key]), classes, name)
    labels = getattr(dataset, "targets", None)
    labels = [dataset[index][1] for index in range(len(dataset))] if labels is None else list(map(int, labels))
    return CatalogPart(dataset, labels, _unique(getattr(dataset, "classes", ())), name)


def _unique(classes: Sequence[str | Sequence[str]]) -> tuple[str, ...]:
    """Class names as text; one that several classes share gets its number."""
    names = [name if isinstance(name, str) else ", ".join(name) for name in classes]
    return tuple(f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names))


def _rows(part: CatalogPart, names: Sequence[str], split: Split | None, warnings: list[str]) -> list[Row]:
    rows = []
    for index, label in enumerate(part.labels):
        if not part.classes:
            rows.append(Row(Entry(part.source, index, part.name), (str(label),), split))
        elif isinstance(label, int) and 0 <= label < len(names):
            rows.append(Row(Entry(part.source, index, part.name), (names[label],), split))
    if len(rows) < len(part.labels):
        warnings.append(f"skipped in {part.name}: {len(part.labels) - len(rows)} pictures without a label")
    return rows
