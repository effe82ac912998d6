"""The paper's figures beside ours: as a table and as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snow.experiments.plots.comparison import wrapped
from snow.experiments.plots.figure import check, new_figure, save
from snow.experiments.results.table import markdown_table

Pair = tuple[float | None, float | None]
"""The paper's figure and ours; None for there is none."""


@dataclass(frozen=True)
class Panel:
    """One quantity of several rows.

    Attributes:
        title: what the columns are called in a table.
        rows: label -> the paper's figure and ours.
        theirs: what the paper's column is called.
        unit: what was measured, where the title does not say it.
        digits: behind the point.
        log: the bars are on a logarithmic scale.
    """

    title: str
    rows: Mapping[str, Pair]
    theirs: str = "paper"
    unit: str = ""
    digits: int = 1
    log: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "theirs": self.theirs,
            "unit": self.unit,
            "rows": [{"label": label, "paper": paper, "here": here} for label, (paper, here) in self.rows.items()],
        }


def markdown(panels: Sequence[Panel], head: str) -> str:
    """One table: a row for each label, in the order of appearance, and for each panel the paper's column, if it has any
    figures, and ours.
    """
    labels = list(dict.fromkeys(label for panel in panels for label in panel.rows))
    columns, rows = [head], [[label] for label in labels]
    for panel in panels:
        known = any(paper is not None for paper, _ in panel.rows.values())
        columns += [f"{panel.title}: {panel.theirs}", "here"] if known else [f"{panel.title}: here"]
        for row in rows:
            pair = panel.rows.get(row[0], (None, None))
            row += [_shown(figure, panel.digits) for figure in (pair if known else pair[1:])]
    return markdown_table(columns, rows)


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Bars, the paper's pale and ours strong, a panel each.

    Raises:
        SnowError: as `check`.
    """
    check(path)
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
    save(figure, path)


def _bars(axes: Any, panel: Panel) -> None:
    for offset, index, name, colour in ((-0.2, 0, "paper", "#b9c4d0"), (0.2, 1, "here", "#1f6f8b")):
        figures = [pair[index] for pair in panel.rows.values()]
        places = [place + offset for place in range(len(figures))]
        bars = axes.barh(places, [figure or 0 for figure in figures], height=0.38, color=colour, label=name)
        texts = ["" if figure is None else _shown(figure, panel.digits) for figure in figures]
        axes.bar_label(bars, texts, fontsize=7, padding=2)
    axes.set_yticks(range(len(panel.rows)), [wrapped(label, 24) for label in panel.rows], fontsize=8)
    axes.invert_yaxis()
    if panel.log:
        axes.set_xscale("log")
    axes.margins(x=0.18)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(", ".join(filter(None, (panel.title, panel.unit))), fontsize=9, loc="left")


def _shown(figure: float | None, digits: int) -> str:
    return "–" if figure is None else f"{figure:,.{digits}f}"
