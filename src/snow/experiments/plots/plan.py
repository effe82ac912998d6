"""Plot a plan: latency over the number of replicas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.experiments.plots.figure import new_figure, save_figure


def draw_plan(results: Mapping[str, Any], path: Path) -> None:
    """Draw a line per percentile, the goal as a dashed line, and a ring around the planned number of replicas.

    Args:
        results: of `snow.experiments.plan.plan_replicas`.

    Raises:
        SnowError: matplotlib is not installed, or the path cannot be written.
    """
    figure = new_figure(6.5, 4.2)
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    answered = [row for row in results["rows"] if row["p99"] is not None]
    axes = figure.subplots()
    for name in ("p50", "p95", "p99"):
        axes.plot(
            [row["replicas"] for row in answered],
            [1000 * row[name] for row in answered],
            "-o",
            markersize=4,
            label=name,
        )
    goal = 1000 * results["goal"]["p99"]
    axes.axhline(goal, color="tab:red", linestyle="--", linewidth=1, label=f"goal: p99 of {goal:g} ms")
    for row in answered:
        if row["replicas"] == results["replicas"]:
            axes.plot(row["replicas"], 1000 * row["p99"], "o", markersize=11, fillstyle="none", color="tab:red")
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("replicas")
    axes.set_ylabel("latency, ms")
    mix = results["tasks_a_picture"]
    axes.set_title(f"{results['rate']:g} pictures/s, {mix} of {results['tasks']} tasks per picture", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    save_figure(figure, path)
