"""The state of a run on disk: written whole or not at all, and only read by the run that it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from snow.data import Dataset
from snow.errors import SnowError
from snow.methods import Method
from snow.source import Source
from snow.training.recipe import Recipe

FORMAT = 2


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes beside `path`, forces it to disk, then takes its place: at any moment `path` is a whole checkpoint.

    Raises:
        SnowError: the disk is full or cannot be written; the checkpoint before this one is still there.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        kept = "the one before it is kept" if path.is_file() else "there is none before it"
        raise SnowError(f"cannot save the checkpoint {path}: {error.strerror or error}; {kept}") from None


def load(path: Path) -> dict[str, Any]:
    """Reads tensors and plain values only.

    Raises:
        SnowError: not a checkpoint, a damaged one, or one of another version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SnowError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):
        raise SnowError(f"{path} is not a checkpoint, or it is damaged: remove it to train from the start") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise SnowError(f"{path} is not a checkpoint of this version: remove it to train from the start")
    return state


def identity(
    source: Source,
    methods: Mapping[str, Method],
    dataset: Dataset,
    recipe: Recipe,
    precision: str,
    processes: int,
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be a run's own."""
    fields = recipe.to_dict()
    for name in ("workers", "checkpoint_seconds", "precision"):
        del fields[name]
    return {
        "recipe": fields,
        "precision": precision,
        "processes": processes,
        "source": source.fingerprint,
        "data": data_digest(dataset),
        "learners": {name: {"method": method.name, "config": method.config} for name, method in methods.items()},
    }


def require_same_run(path: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises SnowError if a checkpoint's identity is not this run's, with what differs."""
    before, after = dict(_leaves(saved)), dict(_leaves(now))
    differences = [
        f"{key} was {before.get(key, 'absent')} and is {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if differences:
        shown = "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")
        raise SnowError(f"{path} is of another run ({shown}): remove it to train from the start")


def data_digest(dataset: Dataset) -> str:
    """SHA-256 over tasks, classes, every label, and the names of the pictures that are files."""
    digest = hashlib.sha256(json.dumps([[task.name, task.classes] for task in dataset.tasks]).encode())
    for pictures in (dataset.train, dataset.test):
        names = [Path(item).name for item in pictures.items if isinstance(item, str | os.PathLike)]
        digest.update(json.dumps([len(pictures), names]).encode())
        digest.update(pictures.labels.contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and JSON of all plain values in nested dicts."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value, sort_keys=True, default=str)


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
