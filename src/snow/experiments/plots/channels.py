"""Plot the channels that tasks select: over the course of training, and in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snow.experiments.plots.figure import literal, new_figure, save_figure
from snow.subscribe import SelectionHistory

ROWS = 400
"""Pixels down, one iteration each."""

NARROW = 500
"""Maps with fewer channels are drawn without antialiasing: each channel has pixels of its own."""

MAX_LINES = 40
"""Most dotted lines at the ends of epochs."""


def draw_selection(history: SelectionHistory, title: str, path: Path) -> None:
    """Draw one panel per tap: channels across, iterations down, black where a channel is selected, epochs dotted.

    Raises:
        SnowError: matplotlib is not installed, or the path cannot be written.
    """
    columns = min(2, len(history.masks))
    rows = -(-len(history.masks) // columns)
    figure = new_figure(7.5 * columns + (4 if columns == 1 else 0), max(4.5, 1.9 * rows))
    figure.suptitle(literal(title))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    last = max(1, int(history.steps[-1]))
    ends = range(history.batches, last, history.batches * -(-last // (history.batches * MAX_LINES)))
    drawn = _nearest(history.steps)
    for axes, (tap, masks) in zip(panels, history.masks.items(), strict=False):
        channels = masks.shape[1]
        axes.imshow(
            masks[drawn].numpy(),
            cmap="Greys",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest" if channels < NARROW else "antialiased",
            extent=(-0.5, channels - 0.5, last, 0),
        )
        for end in ends:
            axes.axhline(end, color="tab:red", linestyle=":", linewidth=0.8)
        axes.set_title(f"{tap}: {int(masks[-1].sum())} of {channels}", fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in panels[len(history.masks) :]:
        axes.set_axis_off()
    figure.supxlabel("channel", fontsize=9)
    figure.supylabel("iteration", fontsize=9)
    save_figure(figure, path)


def _nearest(steps: Tensor) -> Tensor:
    """Find the recorded step nearest to each row: (steps,) -> (ROWS,) indices."""
    middles = (steps[1:] + steps[:-1]) / 2
    return torch.searchsorted(middles, torch.linspace(0, float(steps[-1]), ROWS))


MAX_NUMBERED = 16
"""Most pairs of tasks for which the values are written into the cells."""


def draw_overlap(results: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw intersection over union per tap (down) and pair of tasks (across), coloured by its excess over chance.

    Args:
        results: `to_dict()` of `snow.hub.overlap.Overlaps`.

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
    axes.set_xticks(range(len(pairs)), [literal(" × ".join(pair["tasks"])) for pair in pairs], rotation=45, ha="right")
    axes.set_yticks(range(len(taps)), taps)
    axes.tick_params(labelsize=8)
    for y, row in enumerate(cells if len(pairs) <= MAX_NUMBERED else ()):
        for x, cell in enumerate(row):
            if cell:
                colour = "white" if abs(above[y][x]) > 0.6 * largest else "black"
                axes.text(x, y, f"{cell['iou']:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(literal(title), fontsize=10)
    figure.colorbar(image, ax=axes, label="intersection over union, minus its value by chance")
    save_figure(figure, path)
