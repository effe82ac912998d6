"""Plot a comparison: the first figure of the kind of labels against training speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.figure import check_picture_path, new_figure, save_figure
from snow.experiments.results.figures import shown_figures

LARGEST = 1500
"""Area of the largest circle, in square points."""

LINE_HEIGHT = 0.045
"""Height of one line of a label, as a fraction of the axes."""


def wrap_label(label: str, width: int = 32) -> str:
    """Break a method's label between options, into lines of about `width` characters."""
    lines = [""]
    for part in label.replace(":", "\n:").split("\n"):
        lines = [*lines, part] if lines[-1] and len(lines[-1]) + len(part) > width else [*lines[:-1], lines[-1] + part]
    return "\n".join(lines)


def draw_comparison(results: Mapping[str, Any], path: Path) -> None:
    """Draw the first figure against training speed, peak memory as the area of a circle, as in the paper's Figure 4.

    Labels stand beside the axes in order of accuracy, so that they never overlap.

    Raises:
        SnowError: no method has both figure and speed; and as `check_picture_path`.
    """
    check_picture_path(path)
    headline = shown_figures(results)[0]
    key, scale = headline.key, 100 if headline.is_fraction else 1
    measured = {label: entry for label, entry in results["methods"].items() if {key, "images_per_second"} <= set(entry)}
    if not measured:
        raise SnowError("nothing to draw: no method has both accuracy and speed (compare without --no-costs)")
    from matplotlib import colormaps

    shades = [colormaps["tab20"](index) for index in range(20)]  # dark and light alternate there
    colours = dict(zip(measured, cycle([*shades[::2], *shades[1::2]]), strict=False))
    figure = new_figure(9, 5)
    axes = figure.subplots()
    largest = max(entry["peak_memory_bytes"] for entry in measured.values())
    points = {label: (entry["images_per_second"], scale * entry[key]) for label, entry in measured.items()}
    for label, entry in measured.items():
        area = LARGEST * entry["peak_memory_bytes"] / largest
        axes.scatter(*points[label], s=area, color=colours[label], alpha=0.5, linewidths=0)
        spread = scale * entry[f"{key}_std"] if f"{key}_std" in entry else None
        axes.errorbar(*points[label], yerr=spread, fmt=".", color=colours[label], markersize=4)
    axes.margins(0.12)
    axes.autoscale_view()
    _label_points(axes, points, colours)
    axes.set_xlabel("training, images/s")
    axes.set_ylabel("top-1 accuracy, %" if key == "top1" else f"{headline.title}{', %' * headline.is_fraction}")
    axes.grid(alpha=0.3)
    axes.set_title(f"area: peak training memory, at most {largest / 1e6:,.0f} MB", fontsize=9, loc="left")
    save_figure(figure, path)


def _label_points(axes: Any, points: Mapping[str, tuple[float, float]], colours: Mapping[str, Any]) -> None:
    """Write each label to the right of the axes, with a line from its point."""
    low, high = axes.get_ylim()
    order = sorted(points, key=lambda label: points[label][1])
    texts = {label: wrap_label(label) for label in order}
    heights = [LINE_HEIGHT * (texts[label].count("\n") + 1.4) for label in order]
    wanted = [(points[label][1] - low) / (high - low) for label in order]
    for label, centre in zip(order, spread_out(wanted, heights), strict=True):
        axes.annotate(
            texts[label],
            points[label],
            (1.04, centre),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": colours[label], "linewidth": 0.8, "relpos": (0, 0.5)},
        )


def spread_out(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Centre boxes near wanted, ascending positions, without overlap, and within [0, 1] if they fit."""
    centres: list[float] = []
    floor = 0.0
    for centre, height in zip(wanted, heights, strict=True):
        centres.append(max(centre, floor + height / 2))
        floor = centres[-1] + height / 2
    ceiling = 1.0
    for index in reversed(range(len(centres))):
        centres[index] = min(centres[index], ceiling - heights[index] / 2)
        ceiling = centres[index] - heights[index] / 2
    return centres
