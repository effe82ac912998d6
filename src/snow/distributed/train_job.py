"""Train one task on a worker of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snow.data import Dataset, open_dataset
from snow.hub import Hub
from snow.training import Recipe, Runtime
from snow.training.checkpoint import data_digest
from snow.training.hub_run import remove_run, run_folder
from snow.training.recipe import current_fields
from snow.training.trackers import LOGS
from snow.training.train import holding_out, train


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of `open_dataset` and `train` as plain values, so that any machine can follow them.

    Attributes:
        hub: its folder, under the same name on every machine; it has its source.
        data: as for `open_dataset`.
        task: its name.
        label: the column of a table to learn; None where the data has one label.
        test_fraction: as for `open_dataset`.
        recipe: how to train.
        runtime: workers, cache and checkpoints, on the worker.
        method: a name in `METHODS`.
        config: its options.
        logs: names in `LOGS`.
        replace: replace a task of the hub with this name.
        root: as for `open_dataset`.
        kinds: as for `open_dataset`, of the task.
    """

    hub: Path
    data: str
    task: str
    label: str | None
    test_fraction: float
    recipe: Recipe
    runtime: Runtime
    method: str
    config: Mapping[str, Any]
    logs: tuple[str, ...]
    replace: bool
    root: Path | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)


def train_job(request: TrainRequest) -> tuple[str, ...]:
    """Train a task and add it to the hub, from the checkpoint of a lost worker if there is one.

    Returns:
        Warnings about the data.
    """
    labels = None if request.label is None else [request.label]
    dataset = open_dataset(
        request.data,
        task=request.task,
        labels=labels,
        test_fraction=request.test_fraction,
        seed=request.recipe.seed,
        root=request.root,
        kinds=request.kinds,
    )
    folder, hub = run_folder(request.hub, [request.task]), Hub.open(request.hub)
    if _is_trained(hub, request, dataset):
        remove_run(folder)
        return dataset.warnings_for(hub.source.preprocessing.resize)
    train(
        hub,
        dataset,
        request.recipe,
        method=request.method,
        config=request.config,
        runtime=request.runtime,
        about={"path": request.data, "labels": labels or [], "test_fraction": request.test_fraction},
        listeners=[LOGS[name](folder) for name in request.logs],
        resume=True,
        # a worker that was lost after its last step may have added it already
        replace=request.replace or (folder / "checkpoint.pt").exists(),
    )
    return dataset.warnings_for(hub.source.preprocessing.resize)


def _is_trained(hub: Hub, request: TrainRequest, dataset: Dataset) -> bool:
    """Whether a worker that was lost as it ended has added this very task: the name was free when it was assigned."""
    if request.replace or request.task not in hub.names():
        return False
    task = hub.task(request.task)
    recipe = current_fields(task.training.get("recipe", {}))
    recorded = (task.method.name, recipe, task.training.get("data", {}).get("fingerprint"))
    expected = holding_out(request.recipe, dataset).resolved(request.runtime.cache is not None).to_dict()
    return recorded == (request.method, expected, data_digest(dataset))
