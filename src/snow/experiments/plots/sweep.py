"""Plot a sweep: accuracy over each option, as in the paper's Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snow.errors import SnowError
from snow.experiments.plots.figure import new_figure, save_figure
from snow.experiments.sweep.options import is_number
from snow.experiments.sweep.table import format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sweep(results: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per option: top-1 on held-out images over its values, with a ring around the base value.

    Bars are the standard error for that number of images. Grey dots are trials of the search, which change other
    options as well.

    Raises:
        SnowError: matplotlib is not installed, the path cannot be written, or every trial diverged.
    """
    over = {name: [entry for entry in entries if "top1" in entry] for name, entries in results["over"].items()}
    if not any(over.values()):
        raise SnowError("nothing to draw: every trial diverged")
    columns = min(3, len(over))
    rows = -(-len(over) // columns)
    figure = new_figure(1 + 3.6 * columns, 0.6 + 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    searched = [trial for trial in results["trials"] if trial["searched"] and "top1" in trial]
    for axes, (name, entries) in zip(panels, over.items(), strict=False):
        _panel(axes, name, entries, searched, results["centre"][name])
    for axes in panels[len(over) :]:
        axes.set_axis_off()
    images = next(entry["images"] for entries in over.values() for entry in entries)
    figure.supylabel(f"top-1 on {images} held-out images, %", fontsize=10)
    save_figure(figure, path)


def _panel(
    axes: Axes, name: str, entries: Sequence[Mapping[str, Any]], searched: Sequence[Mapping[str, Any]], centre: Any
) -> None:
    values = [entry["value"] for entry in entries]
    numeric = all(map(is_number, values))
    if numeric:
        entries = sorted(entries, key=lambda entry: entry["value"])
        values = [entry["value"] for entry in entries]
        if min(values, default=0) > 0:
            axes.set_xscale("log")
        axes.set_xticks(values, [format_value(value) for value in values])
        axes.set_xticks([], minor=True)
    positions = dict(zip(values, values if numeric else range(len(values)), strict=True))
    if not numeric:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    for trial in searched:
        value = trial["setting"].get(name, centre)
        if numeric or value in positions:
            axes.plot(value if numeric else positions[value], 100 * trial["top1"], ".", color="0.6")
    accuracy = [100 * entry["top1"] for entry in entries]
    errors = [100 * (entry["top1"] * (1 - entry["top1"]) / entry["images"]) ** 0.5 for entry in entries]
    axes.errorbar(
        list(positions.values()),
        accuracy,
        errors,
        marker="o",
        markersize=4,
        capsize=2,
        linestyle="-" if numeric else "",
    )
    for entry, position, height in zip(entries, positions.values(), accuracy, strict=True):
        axes.annotate(f"{height:.1f}", (position, height), (4, 4), textcoords="offset points", fontsize=8)
        if entry["is_centre"]:
            axes.plot(position, height, "o", markersize=11, fillstyle="none", color="tab:red")
    axes.set_xlabel(name)
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
