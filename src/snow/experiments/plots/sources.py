"""Plot ranked sources: accuracy against speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.figure import new_figure, save_figure
from snow.experiments.rank.table import standard_error


def draw_sources(entries: Mapping[str, Mapping[str, Any]], chosen: str | None, path: Path) -> None:
    """Draw each source as a point, sizes of one source joined by a line, and a ring around the chosen one.

    Bars are standard errors; open points are linear probes on the final features.

    Raises:
        SnowError: matplotlib is not installed, the path cannot be written, or every source failed.
    """
    measured = {key: entry for key, entry in entries.items() if "failed" not in entry}
    if not measured:
        raise SnowError("nothing to draw: every source failed")
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(entry["source"] for entry in measured.values())):
        points = sorted(
            (entry for entry in measured.values() if entry["source"] == name), key=lambda entry: entry["image_size"]
        )
        speed = [entry["images_per_second"] for entry in points]
        accuracy = [100 * entry["accuracy"] for entry in points]
        errors = [100 * standard_error(entry) for entry in points]
        colour = f"C{number % 10}"
        axes.errorbar(speed, accuracy, errors, marker="o", markersize=5, capsize=2, color=colour, label=name)
        axes.plot(speed, [100 * entry["probe_accuracy"] for entry in points], "o", color=colour, fillstyle="none")
        for x, y, entry in zip(speed, accuracy, points, strict=True):
            axes.annotate(f"{entry['image_size']} px", (x, y), (5, 4), textcoords="offset points", fontsize=8)
    if chosen in measured:
        best = measured[chosen]
        position = best["images_per_second"], 100 * best["accuracy"]
        axes.plot(*position, "o", markersize=13, fillstyle="none", color="tab:red")
    axes.set_xscale("log")
    speeds = sorted(entry["images_per_second"] for entry in measured.values())
    axes.set_xticks(speeds, [f"{speed:.0f}" for speed in speeds], rotation=45)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("images/s of the source on this machine")
    axes.set_ylabel("left-out pictures that are right, %")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, title="filled: snow's start, open: linear probe", title_fontsize=8)
    save_figure(figure, path)
