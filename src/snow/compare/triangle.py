"""What `snow.lifelong` measured, as triangular tables and as a picture (paper, Table 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.compare.picture import wrapped
from snow.compare.table import markdown_table, origin
from snow.plots.figure import check, new_figure, save


def columns(order: Sequence[str], label: str) -> tuple[str, ...]:
    """A column of tasks, and one for each task that was learned."""
    return (label, *(f"→ {name}" for name in order))


def rows(order: Sequence[str], measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a task: its accuracy after each that was learned, in percent; empty before its own."""
    table = measured["accuracy"]
    return [(name, *map(_percent, row)) for name, row in zip(order, table, strict=True)]


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of all orders and methods, with a line on where their figures come from."""
    parts = []
    for order in results["orders"]:
        for label, measured in order["methods"].items():
            parts.append(markdown_table(columns(order["order"], f"{label}, top-1 %"), rows(order["order"], measured)))
            parts.append(f"Lost of the earlier tasks at the end, on average: {100 * measured['forgetting']:.1f} %.\n")
    return "\n".join([*parts, origin(results, [results["recipe"]["seed"]])])


def picture(results: Mapping[str, Any], path: Path) -> None:
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
