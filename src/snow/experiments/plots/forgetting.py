"""Draw the forgetting of lifelong learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.experiments.lifelong import percent_cell
from snow.experiments.plots.comparison import wrap_label
from snow.experiments.plots.figure import check_picture_path, literal, new_figure, save_figure


def draw_forgetting(results: Mapping[str, Any], path: Path) -> None:
    """Draw one triangular table per method (rows) and order (columns); the darker a cell, the more accuracy was lost.

    Args:
        results: of `snow.experiments.lifelong.run_lifelong`.

    Raises:
        SnowError: as `check_picture_path`.
    """
    check_picture_path(path)
    orders = results["orders"]
    labels, tasks = list(orders[0]["methods"]), len(orders[0]["order"])
    figure = new_figure(len(orders) * (1.4 + 0.75 * tasks), len(labels) * (1.0 + 0.36 * tasks) + 0.4)
    grid = figure.subplots(len(labels), len(orders), squeeze=False)
    for row, label in enumerate(labels):
        for order, axes in zip(orders, grid[row], strict=True):
            _draw_table(axes, order["order"], order["methods"][label]["accuracy"])
        grid[row][0].set_title(wrap_label(label, 48), fontsize=9, loc="left", fontweight="bold")
    figure.suptitle("top-1 accuracy in %; darker: more lost since the task was learned", fontsize=9)
    save_figure(figure, path)


def _draw_table(axes: Any, order: Sequence[str], table: Sequence[Sequence[float | None]]) -> None:
    lost = [[float("nan") if cell is None else (row[i] or 0.0) - cell for cell in row] for i, row in enumerate(table)]
    axes.imshow(lost, cmap="Oranges", vmin=-0.15, vmax=0.9, aspect="auto")
    for i, row in enumerate(table):
        for j, cell in enumerate(row):
            axes.text(j, i, percent_cell(cell), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(order)), [f"→ {literal(name)}" for name in order], fontsize=7)
    axes.set_yticks(range(len(order)), [literal(name) for name in order], fontsize=7)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
