"""Plot the report of an evaluation: confusion matrix, reliability, answers against numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.experiments.plots.figure import literal, new_figure, save_figure

MOST_NAMED = 60
"""Classes whose names fit beside a confusion matrix."""


def draw_confusion(per_class: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw which share of each class (rows) was taken for which (columns)."""
    names, titles = list(per_class), [literal(name) for name in per_class]
    table = [[per_class[name]["predicted"].get(other, 0) for other in names] for name in names]
    shares = [[cell / max(1, sum(row)) for cell in row] for row in table]
    side = min(14.0, 3.0 + 0.25 * len(names))
    figure = new_figure(side, 0.85 * side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MOST_NAMED:
        axes.set_xticks(range(len(names)), titles, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), titles, fontsize=7)
    for row, cells in enumerate(table if len(names) <= 20 else []):
        for column, count in enumerate(cells):
            if count:
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the label")
    save_figure(figure, path)


def draw_reliability(bins: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw accuracy over confidence: a dot for each bin, its area by its images; right ones are on the diagonal."""
    figure = new_figure(4.5, 4.5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    most = max((entry["images"] for entry in bins), default=1)
    for entry in bins:
        place = entry["confidence"], entry["accuracy"]
        axes.scatter(*place, s=12 + 300 * entry["images"] / most, color="C0", alpha=0.6, linewidths=0, clip_on=False)
        axes.annotate(f"{entry['images']:,}", place, fontsize=7, ha="center", va="center")
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xlabel="confidence", ylabel="accuracy", title="images in each bin")
    save_figure(figure, path)


def draw_numbers(actual: Sequence[float], answers: Sequence[float], unit: str, path: Path) -> None:
    """Draw answers against labels; right ones are on the diagonal."""
    figure = new_figure(5, 5)
    axes = figure.subplots()
    low, high = min([*actual, *answers]), max([*actual, *answers])
    axes.plot([low, high], [low, high], color="0.6", linewidth=1)
    axes.scatter(actual, answers, s=8, alpha=0.5, linewidths=0)
    behind = f", {literal(unit)}" if unit else ""
    axes.set(xlabel=f"label{behind}", ylabel=f"answer{behind}")
    axes.locator_params(nbins=6)
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def draw_tags(per_tag: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the average precision of each tag, the best first."""
    values = {name: entry["average_precision"] for name, entry in per_tag.items()}
    ranked = sorted(((name, value) for name, value in values.items() if value is not None), key=lambda item: item[1])
    figure = new_figure(6, min(14.0, 1.5 + 0.2 * len(ranked)))
    axes = figure.subplots()
    axes.barh([literal(name) for name, _ in ranked], [value for _, value in ranked])
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlim=(0, 1), xlabel="average precision")
    save_figure(figure, path)
