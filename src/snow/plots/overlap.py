"""How far tasks take the same channels, as a map: taps down, pairs of tasks across."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.plots.figure import new_figure, save

NUMBERED = 16
"""With so many pairs at most, the numbers are written into the map."""


def draw_overlap(results: Mapping[str, Any], title: str, path: Path) -> None:
    """The colour says how far intersection over union is above or below what chance gives; the number is itself.

    Args:
        results: of `snow.overlap.overlap`.

    Raises:
        SnowError: matplotlib is not installed, or the path cannot be written.
    """
    pairs = results["pairs"]
    taps = list(dict.fromkeys(tap for pair in pairs for tap in pair["taps"]))
    cells = [[pair["taps"].get(tap) for pair in pairs] for tap in taps]
    above = [[cell["iou"] - cell["chance"] if cell else float("nan") for cell in row] for row in cells]
    largest = max([0.2, *(abs(value) for row in above for value in row if value == value)])
    figure = new_figure(3.5 + 0.8 * len(pairs), 2 + 0.32 * len(taps))
    axes = figure.subplots()
    image = axes.imshow(above, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(len(pairs)), [" × ".join(pair["tasks"]) for pair in pairs], rotation=45, ha="right")
    axes.set_yticks(range(len(taps)), taps)
    axes.tick_params(labelsize=8)
    for y, row in enumerate(cells if len(pairs) <= NUMBERED else ()):
        for x, cell in enumerate(row):
            if cell:
                colour = "white" if abs(above[y][x]) > 0.6 * largest else "black"
                axes.text(x, y, f"{cell['iou']:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="intersection over union, less that of chance")
    save(figure, path)
