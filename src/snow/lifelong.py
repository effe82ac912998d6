"""Tasks that are learned one after the other, and what becomes of the earlier ones (paper, appendix A.3, Table 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from snow.artifact import check_name
from snow.compare.record import begin, keep
from snow.compare.variant import Variant
from snow.data import Dataset
from snow.engine.runtime import source_in
from snow.errors import SnowError
from snow.hub import Hub
from snow.methods import METHODS, Method
from snow.methods.successive import Successive
from snow.pipeline import train
from snow.source import Source
from snow.training.checkpoint import data_fingerprint
from snow.training.evaluate import evaluate
from snow.training.listeners.listener import Listener
from snow.training.recipe import Recipe

Listeners = Callable[[str], Sequence[Listener]]
"""Told what is learned next; gives who listens to it."""

Table = list[list[float | None]]
"""`table[i][j]`: accuracy on the i-th task after the j-th was learned; None before it was learned itself."""


def lifelong(
    source: Source,
    datasets: Sequence[Dataset],
    methods: Sequence[Variant],
    recipe: Recipe,
    folder: Path,
    listeners: Listeners = lambda _: (),
    out: Path | None = None,
    orders: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Trains some tasks in several orders, and measures all earlier tasks after each.

    Args:
        datasets: of one task each.
        folder: holds a hub for each order and method; a second call with the same arguments goes on from what is there.
        out: file that holds what is done so far; a second call with the same arguments leaves out what is in it.
        orders: of the names of all tasks; by default the order given, and the reverse one.

    Returns:
        `{"orders": [{"order": names, "methods": {LABEL: {"accuracy": Table, "forgetting": float}}}], …}` with where
        the figures come from, as JSON values.

    Raises:
        SnowError: fewer than two tasks, two of one name, a data set of several tasks, an order of other tasks, a folder
            or a file with another run; and as `train`.
    """
    names = [task.name for dataset in datasets for task in dataset.tasks]
    if any(len(dataset.tasks) != 1 for dataset in datasets):
        raise SnowError("tasks are learned one after the other: name data with one label each")
    if len(names) < 2 or len(set(names)) < len(names):
        raise SnowError(f"lifelong learning takes two or more tasks with names of their own, not {', '.join(names)}")
    for name in names:
        check_name(name)
    chosen = [list(order) for order in orders or (names, names[::-1])]
    for order in chosen:
        if sorted(order) != sorted(names):
            raise SnowError(f"an order has each of {', '.join(names)} once, not {', '.join(order)}")
    settings = {
        "source": source.description(),
        "data": [
            {"task": name, "fingerprint": data_fingerprint(dataset)}
            for name, dataset in zip(names, datasets, strict=True)
        ],
        "recipe": recipe.to_dict(),
    }
    results = begin(out, settings, {"orders": [{"order": order, "methods": {}} for order in chosen]})
    if [entry["order"] for entry in results["orders"]] != chosen:
        raise SnowError(f"{out} holds other orders: choose another file")
    for entry in results["orders"]:
        order = [datasets[names.index(name)] for name in entry["order"]]
        for variant in methods:
            if variant.label not in entry["methods"]:
                hub = Hub.create(folder / "+".join(entry["order"]) / variant.label, source)
                table = _measure(hub, order, variant, recipe, listeners)
                entry["methods"][variant.label] = {"accuracy": table, "forgetting": forgetting(table)}
                keep(out, results)
    return results


def learn_in_turn(
    hub: Hub, datasets: Sequence[Dataset], variant: Variant, recipe: Recipe, listeners: Listeners = lambda _: ()
) -> Iterator[dict[str, Method]]:
    """Trains tasks in order; after each, gives what now answers it and the earlier ones, read afresh from the hub.

    Tasks that the hub has already are not trained again.

    Raises:
        SnowError: the hub has a task of this name that was learned otherwise; and as `train`.
    """
    learned: list[str] = []
    for dataset in datasets:
        task = dataset.tasks[0].name
        if task in hub.names():
            _require_same(hub, dataset, recipe)
        else:
            kind, config = METHODS[variant.method], dict(variant.config)
            if issubclass(kind, Successive):
                config["earlier"] = {name: hub.task(name).method for name in learned}
            heard = listeners(f"{variant.label}: {' → '.join([*learned, task])}")
            train(hub, dataset, recipe, method=variant.method, config=config, listeners=heard, resume=True)
        learned.append(task)
        yield _answering(hub, learned)


def forgetting(table: Table) -> float:
    """How much of its accuracy an earlier task has lost at the end, on average."""
    losses = [(row[index] or 0.0) - (row[-1] or 0.0) for index, row in enumerate(table[:-1])]
    return fmean(losses)


def _measure(hub: Hub, order: Sequence[Dataset], variant: Variant, recipe: Recipe, listeners: Listeners) -> Table:
    table: Table = [[None] * len(order) for _ in order]
    bytewise = recipe.precision == "int8"  # made once: it takes seconds
    source = source_in(hub.source, recipe.precision) if bytewise else hub.source
    for after, methods in enumerate(learn_in_turn(hub, order, variant, recipe, listeners)):
        for row, (name, method) in enumerate(methods.items()):
            metrics = evaluate(
                source,
                {name: method},
                order[row].test,
                batch_size=recipe.batch_size,
                workers=recipe.loading_workers(),
                precision="32" if bytewise else recipe.precision,
            )
            table[row][after] = metrics[name].top1
    return table


def _answering(hub: Hub, learned: Sequence[str]) -> dict[str, Method]:
    read = Hub(hub.path, hub.source)
    methods = {name: read.task(name).method for name in learned}
    last = methods[learned[-1]]
    return {**methods, **last.recalled()} if isinstance(last, Successive) else methods


def _require_same(hub: Hub, dataset: Dataset, recipe: Recipe) -> None:
    task = dataset.tasks[0].name
    training = hub.task(task).training
    if training["recipe"] != recipe.to_dict() or training["data"]["fingerprint"] != data_fingerprint(dataset):
        raise SnowError(f"{hub.path} has task {task} from another run, with other data or options: use another folder")
