"""What `snow.experiments.lifelong` measured, as triangular tables and as a picture (paper, Table 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.plots.comparison import wrapped
from snow.experiments.plots.figure import check, new_figure, save
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import markdown_table, origin
from snow.hub import Hub
from snow.inference.onnx_backend import source_for_precision
from snow.methods import METHODS, Method
from snow.methods.sequential_method import SequentialMethod
from snow.methods.variant import Variant
from snow.source import Source
from snow.store import check_name
from snow.training import Recipe
from snow.training.checkpoint import data_digest
from snow.training.evaluate import evaluate
from snow.training.listeners import Listener
from snow.training.train import train


def forgetting_columns(order: Sequence[str], label: str) -> tuple[str, ...]:
    """A column of tasks, and one for each task that was learned."""
    return (label, *(f"→ {name}" for name in order))


def forgetting_rows(order: Sequence[str], measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a task: its accuracy after each that was learned, in percent; empty before its own."""
    table = measured["accuracy"]
    return [(name, *map(_percent, row)) for name, row in zip(order, table, strict=True)]


def forgetting_table(results: Mapping[str, Any]) -> str:
    """The tables of all orders and methods, with a line on where their figures come from."""
    parts = []
    for order in results["orders"]:
        for label, measured in order["methods"].items():
            parts.append(
                markdown_table(
                    forgetting_columns(order["order"], f"{label}, top-1 %"), forgetting_rows(order["order"], measured)
                )
            )
            parts.append(f"Lost of the earlier tasks at the end, on average: {100 * measured['forgetting']:.1f} %.\n")
    return "\n".join([*parts, origin(results, [results["recipe"]["seed"]])])


def draw_forgetting(results: Mapping[str, Any], path: Path) -> None:
    """A row for each method, a column for each order: a cell is one accuracy, the darker the more of it is lost.

    Raises:
        SnowError: as `check`.
    """
    check(path)
    orders = results["orders"]
    labels, tasks = list(orders[0]["methods"]), len(orders[0]["order"])
    figure = new_figure(len(orders) * (1.4 + 0.75 * tasks), len(labels) * (1.0 + 0.36 * tasks) + 0.4)
    grid = figure.subplots(len(labels), len(orders), squeeze=False)
    for row, label in enumerate(labels):
        for order, axes in zip(orders, grid[row], strict=True):
            _draw(axes, order["order"], order["methods"][label]["accuracy"])
        grid[row][0].set_title(wrapped(label, 48), fontsize=9, loc="left", fontweight="bold")
    figure.suptitle("top-1 accuracy in %; the darker, the more is lost since the task was learned", fontsize=9)
    save(figure, path)


def _draw(axes: Any, order: Sequence[str], table: Sequence[Sequence[float | None]]) -> None:
    lost = [[float("nan") if cell is None else (row[i] or 0.0) - cell for cell in row] for i, row in enumerate(table)]
    axes.imshow(lost, cmap="Oranges", vmin=-0.15, vmax=0.9, aspect="auto")
    for i, row in enumerate(table):
        for j, cell in enumerate(row):
            axes.text(j, i, _percent(cell), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(order)), [f"→ {name}" for name in order], fontsize=7)
    axes.set_yticks(range(len(order)), order, fontsize=7)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{100 * accuracy:.1f}"


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
            {"task": name, "fingerprint": data_digest(dataset)} for name, dataset in zip(names, datasets, strict=True)
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
            if issubclass(kind, SequentialMethod):
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
    source = source_for_precision(hub.source, recipe.precision) if bytewise else hub.source
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
    return {**methods, **last.updated_tasks()} if isinstance(last, SequentialMethod) else methods


def _require_same(hub: Hub, dataset: Dataset, recipe: Recipe) -> None:
    task = dataset.tasks[0].name
    training = hub.task(task).training
    if training["recipe"] != recipe.to_dict() or training["data"]["fingerprint"] != data_digest(dataset):
        raise SnowError(f"{hub.path} has task {task} from another run, with other data or options: use another folder")
