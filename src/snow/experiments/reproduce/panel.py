"""The paper's figures next to ours, as a table and as a bar chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snow.experiments.plots.comparison import wrap_label
from snow.experiments.plots.figure import check_picture_path, new_figure, save_figure
from snow.experiments.results.table import markdown_table

Pair = tuple[float | None, float | None]
"""(paper, here); None where there is no figure."""


@dataclass(frozen=True)
class Panel:
    """One quantity for several rows.

    Attributes:
        title: heading of the columns.
        rows: label -> (paper, here).
        paper_label: heading of the paper's column.
        unit: the quantity, if the title does not name it.
        digits: after the decimal point.
        log: draw the bars on a logarithmic scale.
        spreads: label -> standard deviation of our figure over seeds; None for a single seed.
    """

    title: str
    rows: Mapping[str, Pair]
    paper_label: str = "paper"
    unit: str = ""
    digits: int = 1
    log: bool = False
    spreads: Mapping[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "theirs": self.paper_label,
            "unit": self.unit,
            "rows": [{"label": label, "paper": paper, "here": here} for label, (paper, here) in self.rows.items()],
        }


def markdown(panels: Sequence[Panel], head: str) -> str:
    """Write one table with a row per label, and per panel the paper's column (if it has figures) and ours."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.rows))
    columns, rows = [head], [[label] for label in labels]
    for panel in panels:
        known = any(paper is not None for paper, _ in panel.rows.values())
        columns += [f"{panel.title}: {panel.paper_label}", "here"] if known else [f"{panel.title}: here"]
        for row in rows:
            pair = panel.rows.get(row[0], (None, None))
            row += [_format(pair[0], panel.digits)] if known else []
            row += [_format(pair[1], panel.digits) + _format_spread(panel, row[0])]
    return markdown_table(columns, rows)


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw one bar chart per panel, the paper's bars light and ours dark.

    Raises:
        SnowError: as `check_picture_path`.
    """
    check_picture_path(path)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max(len(panel.rows) for panel in panels)
    figure = new_figure(1.5 + 4 * columns, rows * (1.2 + 0.42 * tallest))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        _bars(axes, panel)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    save_figure(figure, path)


def _bars(axes: Any, panel: Panel) -> None:
    for offset, index, name, colour in ((-0.2, 0, "paper", "#b9c4d0"), (0.2, 1, "here", "#1f6f8b")):
        figures = [pair[index] for pair in panel.rows.values()]
        positions = [row + offset for row in range(len(figures))]
        bars = axes.barh(positions, [figure or 0 for figure in figures], height=0.38, color=colour, label=name)
        texts = ["" if figure is None else _format(figure, panel.digits) for figure in figures]
        axes.bar_label(bars, texts, fontsize=7, padding=2)
    axes.set_yticks(range(len(panel.rows)), [wrap_label(label, 24) for label in panel.rows], fontsize=8)
    axes.invert_yaxis()
    if panel.log:
        axes.set_xscale("log")
    axes.margins(x=0.18)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(", ".join(filter(None, (panel.title, panel.unit))), fontsize=9, loc="left")


def _format_spread(panel: Panel, label: str) -> str:
    deviation = panel.spreads.get(label)
    return "" if deviation is None else f" ± {_format(deviation, panel.digits)}"


def _format(figure: float | None, digits: int) -> str:
    return "–" if figure is None else f"{figure:,.{digits}f}"
