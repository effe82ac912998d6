"""Learn tasks one after another, and measure after each what is left of the earlier ones (paper, Table 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import markdown_table, origin
from snow.hub import Hub
from snow.inference.onnx_backend import source_for_precision
from snow.kinds import ClassKind
from snow.methods import METHODS, Method
from snow.methods.sequential_method import SequentialMethod
from snow.methods.variant import Variant
from snow.source import Source
from snow.store import check_name
from snow.training import Recipe, Runtime
from snow.training.checkpoint import data_digest
from snow.training.evaluate import evaluate
from snow.training.listeners import Listener
from snow.training.recipe import current_fields
from snow.training.train import train

Listeners = Callable[[str], Sequence[Listener]]
"""Makes the listeners of a training run from its name."""

Table = list[list[float | None]]
"""`table[i][j]`: accuracy on task i after task j was learned; None for j < i."""


def run_lifelong(
    source: Source,
    datasets: Sequence[Dataset],
    methods: Sequence[Variant],
    recipe: Recipe,
    folder: Path,
    listeners: Listeners = lambda _: (),
    out: Path | None = None,
    orders: Sequence[Sequence[str]] | None = None,
    runtime: Runtime = Runtime(),  # noqa: B008  frozen
) -> dict[str, Any]:
    """Train tasks in several orders, and evaluate the current and all earlier tasks after each.

    Args:
        datasets: one per task.
        folder: for one hub per order and method; a second call with the same arguments continues from them.
        out: results file, saved after every method; a second call with the same arguments skips what it holds.
        orders: of all task names; by default the order of `datasets` and its reverse.
        runtime: of each training run.

    Returns:
        `{"orders": [{"order": names, "methods": {LABEL: {"accuracy": Table, "forgetting": float}}}], …}` with
        provenance, as JSON values.

    Raises:
        SnowError: fewer than two tasks, duplicate names, a dataset with several tasks or no classes, an order that is
            not a permutation of the tasks, a folder or file of another run; and as `train`.
    """
    names = _names(datasets)
    sequences = [list(order) for order in orders or (names, names[::-1])]
    for order in sequences:
        if sorted(order) != sorted(names):
            raise SnowError(f"an order holds each of {', '.join(names)} once, not {', '.join(order)}")
    identity = {
        "source": source.description(),
        "data": [
            {"task": name, "fingerprint": data_digest(dataset)} for name, dataset in zip(names, datasets, strict=True)
        ],
        "recipe": recipe.resolved(runtime.cache is not None).to_dict(),
    }
    results = open_results(out, identity, {"orders": [{"order": order, "methods": {}} for order in sequences]})
    if [entry["order"] for entry in results["orders"]] != sequences:
        raise SnowError(f"{out} holds other orders of the tasks: choose another file")
    for entry in results["orders"]:
        order = [datasets[names.index(name)] for name in entry["order"]]
        for variant in methods:
            if variant.label not in entry["methods"]:
                hub = Hub.create(folder / "+".join(entry["order"]) / variant.label, source)
                table = _measure(hub, order, variant, recipe, runtime, listeners)
                entry["methods"][variant.label] = {"accuracy": table, "forgetting": forgetting(table)}
                save_results(out, results)
    return results


def _names(datasets: Sequence[Dataset]) -> list[str]:
    """Return the name of each task. Raises SnowError: they cannot be learned one after the other."""
    names = [task.name for dataset in datasets for task in dataset.tasks]
    if any(len(dataset.tasks) != 1 for dataset in datasets):
        raise SnowError("lifelong learning takes one task per dataset: name data with one label column each")
    for name, dataset in zip(names, datasets, strict=True):
        kind = dataset.tasks[0].kind
        if not isinstance(kind, ClassKind):
            raise SnowError(f"lifelong learning measures accuracy, and task {name} is {kind.describe()}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise SnowError(
            f"lifelong learning takes two or more tasks with different names, not {', '.join(names) or 'none'}"
        )
    for name in names:
        check_name(name)
    return names


def learn_in_turn(
    hub: Hub,
    datasets: Sequence[Dataset],
    variant: Variant,
    recipe: Recipe,
    runtime: Runtime = Runtime(),  # noqa: B008  frozen
    listeners: Listeners = lambda _: (),
) -> Iterator[dict[str, Method]]:
    """Train tasks in order; after each, yield {task: method} for it and all earlier ones, as saved in the hub.

    Tasks that the hub has already are not trained again.

    Raises:
        SnowError: the hub has a task of this name from other data or with another recipe; and as `train`.
    """
    learned: list[str] = []
    for dataset in datasets:
        task = dataset.tasks[0].name
        if task in hub.names():
            _require_same(hub, dataset, recipe.resolved(runtime.cache is not None))
        else:
            kind, config = METHODS[variant.method], dict(variant.config)
            if issubclass(kind, SequentialMethod):
                config["earlier"] = {name: hub.task(name).method for name in learned}
            run_listeners = listeners(f"{variant.label}: {' → '.join([*learned, task])}")
            train(
                hub,
                dataset,
                recipe,
                method=variant.method,
                config=config,
                runtime=runtime,
                listeners=run_listeners,
                resume=True,
            )
        learned.append(task)
        yield _saved_methods(hub, learned)


def forgetting(table: Table) -> float:
    """Average the accuracy that earlier tasks have lost by the end, as a fraction."""
    losses = [(row[index] or 0.0) - (row[-1] or 0.0) for index, row in enumerate(table[:-1])]
    return fmean(losses)


def _measure(
    hub: Hub, order: Sequence[Dataset], variant: Variant, recipe: Recipe, runtime: Runtime, listeners: Listeners
) -> Table:
    table: Table = [[None] * len(order) for _ in order]
    is_int8 = recipe.precision == "int8"
    source = source_for_precision(hub.source, recipe.precision) if is_int8 else hub.source  # takes seconds: made once
    for after, methods in enumerate(learn_in_turn(hub, order, variant, recipe, runtime, listeners)):
        for row, (name, method) in enumerate(methods.items()):
            metrics = evaluate(
                source,
                {name: method},
                order[row].test,
                batch_size=recipe.batch_size,
                precision="32",
                runtime=runtime,
            )
            table[row][after] = metrics[name].score
    return table


def _saved_methods(hub: Hub, learned: Sequence[str]) -> dict[str, Method]:
    reopened = Hub(hub.path, hub.source)
    methods = {name: reopened.task(name).method for name in learned}
    last = methods[learned[-1]]
    return {**methods, **last.updated_tasks()} if isinstance(last, SequentialMethod) else methods


def _require_same(hub: Hub, dataset: Dataset, recipe: Recipe) -> None:
    task = dataset.tasks[0].name
    training = hub.task(task).training
    if current_fields(training["recipe"]) != recipe.to_dict() or training["data"]["fingerprint"] != data_digest(
        dataset
    ):
        raise SnowError(
            f"{hub.path} has task {task} from another run, with other data or another recipe: use another folder"
        )


def forgetting_columns(order: Sequence[str], label: str) -> tuple[str, ...]:
    """Name the columns: the task, then one for each task in the order of learning."""
    return (label, *(f"→ {name}" for name in order))


def forgetting_rows(order: Sequence[str], measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay out one row per task: its accuracy in percent after each learned task, empty before its own."""
    table = measured["accuracy"]
    return [(name, *map(percent_cell, row)) for name, row in zip(order, table, strict=True)]


def forgetting_table(results: Mapping[str, Any]) -> str:
    """Write the tables of all orders and methods, and the line on their origin."""
    parts = []
    for order in results["orders"]:
        for label, measured in order["methods"].items():
            parts.append(
                markdown_table(
                    forgetting_columns(order["order"], f"{label}, top-1 %"), forgetting_rows(order["order"], measured)
                )
            )
            parts.append(f"Average accuracy lost on earlier tasks: {100 * measured['forgetting']:.1f} %.\n")
    return "\n".join([*parts, origin(results, [results["recipe"]["seed"]])])


def percent_cell(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{100 * accuracy:.1f}"
