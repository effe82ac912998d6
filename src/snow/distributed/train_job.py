"""One task of several that are learned apart, wherever its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snow.data import Dataset, open_dataset
from snow.hub import Hub
from snow.training import Recipe
from snow.training.checkpoint import data_digest
from snow.training.listeners import LOGS
from snow.training.train import clear, run_folder, train


@dataclass(frozen=True)
class TrainJob:
    """A task to learn: the arguments of `open_dataset` and `train`, in words, so that any machine can follow them.

    Attributes:
        hub: its folder, by the name that it has everywhere; it has its source.
        data: as for `open_dataset`.
        task: its name.
        label: the column of a table that it learns; None where the data has one label.
        logs: names in `LOGS`.
        root: as for `open_dataset`.
    """

    hub: Path
    data: str
    task: str
    label: str | None
    test_fraction: float
    recipe: Recipe
    method: str
    config: Mapping[str, Any]
    logs: tuple[str, ...]
    replace: bool
    cache: Path | None
    root: Path | None = None


def train_job(given: TrainJob) -> tuple[str, ...]:
    """Learns a task and keeps it in the hub; goes on from the checkpoint of a worker that was lost over it.

    Returns:
        Warnings about the data.
    """
    labels = None if given.label is None else [given.label]
    dataset = open_dataset(
        given.data,
        task=given.task,
        labels=labels,
        test_fraction=given.test_fraction,
        seed=given.recipe.seed,
        root=given.root,
    )
    folder, hub = run_folder(given.hub, [given.task]), Hub.open(given.hub)
    if _is_learned(hub, given, dataset):
        clear(folder)
        return tuple(dataset.warnings)
    train(
        hub,
        dataset,
        given.recipe,
        method=given.method,
        config=given.config,
        about={"path": given.data, "labels": labels or [], "test_fraction": given.test_fraction},
        listeners=[LOGS[name](folder) for name in given.logs],
        resume=True,
        # a worker that was lost behind its last step may have added it already
        replace=given.replace or (folder / "checkpoint.pt").exists(),
        cache=given.cache,
    )
    return tuple(dataset.warnings)


def _is_learned(hub: Hub, given: TrainJob, dataset: Dataset) -> bool:
    """Whether a worker that was lost as it ended has added this very task: the name was free when it was assigned."""
    if given.replace or given.task not in hub.names():
        return False
    task = hub.task(given.task)
    learned = (task.method.name, task.training.get("recipe"), task.training.get("data", {}).get("fingerprint"))
    return learned == (given.method, given.recipe.to_dict(), data_digest(dataset))
