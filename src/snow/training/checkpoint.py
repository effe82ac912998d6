"""The state of a run on disk: each save replaces the one before in one step, and only the same run reads it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snow.data import Dataset
from snow.errors import DamagedError, MismatchError, SnowError, file_error
from snow.training.job import TrainingJob
from snow.training.process_group import ProcessGroup
from snow.training.recipe import current_fields

FORMAT = 3


class Checkpointer:
    """Saves and loads the state of a run. All processes call it together; the first one writes.

    Args:
        job: before its learners are calibrated.
        arithmetic: what the run computes in, see `snow.training.launch.arithmetic`.
        group: the processes of the run.
    """

    def __init__(self, job: TrainingJob, arithmetic: str, group: ProcessGroup) -> None:
        self._paths, self._seconds, self._group = job.paths, job.runtime.checkpoint_seconds, group
        self._identity = {} if job.paths.checkpoint is None else run_identity(job, arithmetic, group.count)
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether this process is the one that saves, and the last checkpoint is old enough."""
        due = time.monotonic() - self._saved_at > self._seconds
        return due and self._paths.checkpoint is not None and self._group.is_first

    def load(self) -> dict[str, Any] | None:
        """Read the state to continue from, if the run is to be resumed and has one.

        Raises:
            SnowError: the checkpoint cannot be read, or is of another run.
        """
        path = self._paths.checkpoint
        if path is None or not self._paths.resume or not path.exists():
            return None
        state = read_checkpoint(path)
        require_same_run(path, state["identity"], self._identity)
        return state

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write the state and the random states of all processes.

        Raises:
            SnowError: as `write_checkpoint`, in every process.
        """
        if self._paths.checkpoint is None:
            return
        random_states = self._group.random_states()
        error = None
        if self._group.is_first:
            try:
                content = {"identity": self._identity, **state(), "random": random_states}
                write_checkpoint(self._paths.checkpoint, content)
            except SnowError as raised:
                error = raised
        self._group.agree(error)
        self._saved_at = time.monotonic()


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a draft beside `path`, force it to disk, and rename it: at any moment `path` is a complete checkpoint.

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
        raise file_error(f"cannot save the checkpoint {path}: {error.strerror or error}; {kept}", error) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values only.

    Raises:
        SnowError: the file cannot be read, is not a checkpoint, or is of another version.
        DamagedError: the file is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise file_error(f"cannot read the checkpoint {path}: {error.strerror or error}", error) from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):
        raise DamagedError(f"{path} is not a checkpoint, or it is damaged: remove it to train from the start") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise MismatchError(f"{path} is not a checkpoint of this version: remove it to train from the start")
    return state


def run_identity(job: TrainingJob, arithmetic: str, processes: int) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be of this run, as JSON values."""
    recipe = job.recipe.to_dict()
    del recipe["precision"]  # "auto" depends on the hardware: `arithmetic` is what it came to
    return {
        "recipe": recipe,
        "precision": arithmetic,
        "processes": processes,
        "source": job.source.fingerprint,
        "data": data_digest(job.dataset),
        "learners": {name: {"method": method.name, "config": method.config} for name, method in job.learners.items()},
        **({"warm_start": _weights_digest(job.learners)} if job.warm_start else {}),
    }


def _weights_digest(learners: Mapping[str, nn.Module]) -> str:
    """Return the SHA-256 of the weights that a warm start begins with."""
    digest = hashlib.sha256()
    for name, learner in learners.items():
        for tensor, value in learner.state_dict().items():
            digest.update(f"{name}:{tensor}:{value.dtype}:{tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def require_same_run(path: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise MismatchError with what differs if a checkpoint's identity is not that of this run."""
    saved = {**saved, "recipe": current_fields(saved["recipe"])}
    before, after = dict(_leaves(saved)), dict(_leaves(now))
    differences = [
        f"{key} was {before.get(key, 'absent')} and is {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if differences:
        shown = "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")
        raise MismatchError(f"{path} is of another run ({shown}): remove it to train from the start")


def data_digest(dataset: Dataset) -> str:
    """Return the SHA-256 of tasks, classes, every label, and the names of the pictures that are files."""
    digest = hashlib.sha256(json.dumps([task.to_dict() for task in dataset.tasks]).encode())
    for pictures in (dataset.train, dataset.test):
        names = [Path(item).name for item in pictures.items if isinstance(item, str | os.PathLike)]
        digest.update(json.dumps([len(pictures), names]).encode())
        digest.update(pictures.labels.contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and JSON of each plain value in nested dicts."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value, sort_keys=True, default=str)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
