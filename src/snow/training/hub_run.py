"""A training run in the folder of a hub: the names that it may take, the files that it keeps, and what it leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from snow.data import Dataset
from snow.data.labels import require_text
from snow.errors import MismatchError, SnowError
from snow.hub.listing import store_of
from snow.hub.task_files import read_config
from snow.store import check_name, write_lock
from snow.training.checkpoint import data_digest
from snow.training.launch import is_first
from snow.training.recipe import Recipe

CHECKPOINT, CACHE = "checkpoint.pt", "cache"
"""In the folder of a run, while it lasts."""


def run_folder(hub: Path, names: Sequence[str]) -> Path:
    """Return where the run that trains these tasks together keeps its logs and, until it ends, its checkpoint."""
    return hub / "runs" / "+".join(names)[:200]


def require_free(hub: Path, names: Collection[str], replace: bool, added: Collection[str] = ()) -> None:
    """Check that tasks may be added under these names, other than those that the run itself has added.

    Raises:
        SnowError: a name cannot name a task, or the path of the hub is not text.
        MismatchError: a task has the name, and is not to be replaced.
    """
    require_text(str(hub), "the path of hub")
    for name in names:
        check_name(name)
        if not replace and name not in added and store_of(hub).has(name):
            choices = "replace it, train it on (warm start), or choose another name"
            raise MismatchError(f"hub {hub} has a task {name!r} already: {choices}")


def require_writable(hub: Path) -> None:
    """Check before the first step that the hub can take a task after the last one.

    Raises:
        SnowError: its folder is read-only, or belongs to another user.
    """
    for folder in (hub, hub / "tasks", hub / "runs"):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise SnowError(f"hub {hub} cannot be written: {folder} is read-only for this user")


@contextmanager
def sole_run(hub: Path, names: Collection[str]) -> Generator[None]:
    """Keep other processes from training or extending tasks of these names during the block.

    Raises:
        SnowError: another process does so with one of them, or the hub cannot be written.
    """
    with ExitStack() as locks:
        for name in sorted(names) if is_first() else ():
            lock = hub / ".locks" / f"{name}.lock"
            locks.enter_context(write_lock(f"task {name} of hub {hub}", lock, activity="trained"))
        yield


def added_before(hub: Path, dataset: Dataset, recipe: Recipe) -> set[str]:
    """Name the tasks that a run of this recipe and data had added to the hub when it was killed."""
    digest, names = data_digest(dataset), set[str]()
    for task in dataset.tasks:
        with suppress(SnowError):
            training = store_of(hub).read(task.name, read_config)["training"]
            if (training.get("recipe"), training.get("data", {}).get("fingerprint")) == (recipe.to_dict(), digest):
                names.add(task.name)
    return names


@contextmanager
def rollback(folder: Path, keep: Path) -> Generator[None, None, None]:
    """Remove a folder that a failed block has made, unless the block left `keep` to continue from."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed and not keep.exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_run(folder: Path) -> None:
    """Remove checkpoint and cache from the folder of a run whose tasks are in the hub."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / CACHE, ignore_errors=True)
