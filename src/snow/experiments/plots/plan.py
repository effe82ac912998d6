"""Latency over the number of replicas, and the goal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.experiments.plots.figure import new_figure, save


def draw_plan(results: Mapping[str, Any], path: Path) -> None:
    """A line for each percentile, the goal dashed, a ring around what meets it first.

    Args:
        results: of `snow.experiments.plan.plan`.

    Raises:
        SnowError: matplotlib is not installed, or the path cannot be written.
    """
    figure = new_figure(6.5, 4.2)
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    found = [row for row in results["rows"] if row["p99"] is not None]
    axes = figure.subplots()
    for name in ("p50", "p95", "p99"):
        axes.plot(
            [row["replicas"] for row in found], [1000 * row[name] for row in found], "-o", markersize=4, label=name
        )
    goal = 1000 * results["goal"]["p99"]
    axes.axhline(goal, color="tab:red", linestyle="--", linewidth=1, label=f"goal: p99 of {goal:g} ms")
    for row in found:
        if row["replicas"] == results["replicas"]:
            axes.plot(row["replicas"], 1000 * row["p99"], "o", markersize=11, fillstyle="none", color="tab:red")
    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("replicas")
    axes.set_ylabel("latency, ms")
    each = results["tasks_a_picture"]
    axes.set_title(f"{results['rate']:g} pictures/s, {each} of {results['tasks']} tasks a picture", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    save(figure, path)
