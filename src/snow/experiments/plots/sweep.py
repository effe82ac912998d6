"""Plot a sweep: the first figure of the kind of labels over each option, as in the paper's Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snow.errors import SnowError
from snow.experiments.plots.figure import new_figure, save_figure
from snow.experiments.results.figures import shown_figures
from snow.experiments.sweep.options import is_number
from snow.experiments.sweep.table import format_value
from snow.kinds import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sweep(results: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per option: top-1, say, on held-out images over its values, with a ring around the base value.

    Bars are the standard error of top-1 for that number of images. Grey dots are trials of the search, which change
    other options as well.

    Raises:
        SnowError: matplotlib is not installed, the path cannot be written, or every trial diverged.
    """
    figure_of_kind = shown_figures(results)[0]
    key = figure_of_kind.key
    over = {name: [entry for entry in entries if key in entry] for name, entries in results["over"].items()}
    if not any(over.values()):
        raise SnowError("nothing to draw: every trial diverged")
    columns = min(3, len(over))
    rows = -(-len(over) // columns)
    figure = new_figure(1 + 3.6 * columns, 0.6 + 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    searched = [trial for trial in results["trials"] if trial["searched"] and key in trial]
    for axes, (name, entries) in zip(panels, over.items(), strict=False):
        _panel(axes, name, entries, searched, results["centre"][name], figure_of_kind)
    for axes in panels[len(over) :]:
        axes.set_axis_off()
    images = next(entry["images"] for entries in over.values() for entry in entries)
    percent = ", %" if figure_of_kind.is_fraction else ""
    figure.supylabel(f"{figure_of_kind.title} on {images} held-out images{percent}", fontsize=10)
    save_figure(figure, path)


def _panel(
    axes: Axes,
    name: str,
    entries: Sequence[Mapping[str, Any]],
    searched: Sequence[Mapping[str, Any]],
    centre: Any,
    figure: Figure,
) -> None:
    key, scale, digits = figure.key, 100 if figure.is_fraction else 1, 1 if figure.is_fraction else 3
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
            axes.plot(value if numeric else positions[value], scale * trial[key], ".", color="0.6")
    heights = [scale * entry[key] for entry in entries]
    errors = None
    if key == "top1":
        errors = [100 * (entry[key] * (1 - entry[key]) / entry["images"]) ** 0.5 for entry in entries]
    axes.errorbar(
        list(positions.values()),
        heights,
        errors,
        marker="o",
        markersize=4,
        capsize=2,
        linestyle="-" if numeric else "",
    )
    for entry, position, height in zip(entries, positions.values(), heights, strict=True):
        axes.annotate(f"{height:.{digits}f}", (position, height), (4, 4), textcoords="offset points", fontsize=8)
        if entry["is_centre"]:
            axes.plot(position, height, "o", markersize=11, fillstyle="none", color="tab:red")
    axes.set_xlabel(name)
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
