"""Figure 4: accuracy against speed of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.comparison import wrapped
from snow.experiments.plots.figure import check, new_figure, save
from snow.experiments.reproduce import accuracy, table8
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel
from snow.experiments.reproduce.paper import TABLE7, TABLE8
from snow.experiments.reproduce.sets import column_of, title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import provenance

LARGEST = 900
"""Area of the largest circle, in square points."""

Point = tuple[float, float, float]
"""Images/s, top-1 in percent, memory in GB."""


class Figure4(Experiment):
    name = "figure4"
    title = "Figure 4: accuracy against speed of training"
    differs = (
        "Made of Tables 7 and 8, which see. The paper's circles are of different batches, ours of one. Speeds were "
        "measured with 196 classes on pictures that are in memory, the accuracies with the source of their line."
    )
    methods = accuracy.METHODS

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        return [*accuracy.costs(work, self.variants(work)), *table8.costs(_of_source(work), self.variants(work))]

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        sets = accuracy.compared(work, self.variants(work))
        return {**provenance(), "sets": sets, "steps": table8.measured(_of_source(work), self.variants(work))}

    def origins(self, results: Results) -> list[str]:
        return [*accuracy.origins(results["sets"])[:-1], f"- {table8.Table8().origins(results['steps'])[0]}"]

    def panels(self, results: Results) -> list[Panel]:
        panels = []
        for entry in results["sets"]:
            paper, here = _theirs(entry), _ours(entry, results["steps"])
            for place, what in ((1, "top-1 %"), (0, "images/s")):
                rows: dict[str, Pair] = {}
                for label, point in here.items():
                    known = paper.get(table8.ROWS.get(label, ""))
                    rows[label] = (known[place] if known else None, point[place])
                panels.append(Panel(f"{title(entry)}, {what}", rows, accuracy.theirs(entry)))
        return panels

    def draw(self, results: Results, path: Path) -> None:
        check(path)
        entries = results["sets"]
        if not entries:
            raise SnowError("there is nothing to draw: no set has been measured")
        figure = new_figure(10, 3.6 * len(entries))
        grid = figure.subplots(len(entries), 2, squeeze=False)
        for entry, (left, right) in zip(entries, grid, strict=True):
            _scatter(left, _theirs(entry), f"paper, {entry['paper'] or 'without this set'}")
            _scatter(right, _ours(entry, results["steps"]), f"here, {title(entry)}")
        save(figure, path)


def _of_source(work: ReproductionSettings) -> ReproductionSettings:
    """Speeds are those of the source that accuracies are measured with."""
    return replace(work, bare=work.source.architecture, image_size=work.source.preprocessing.image_size)


def _theirs(entry: Mapping[str, Any]) -> dict[str, Point]:
    column = column_of(entry)
    if column is None:
        return {}
    steps = {row: figures[column] for row, figures in TABLE8.items()}
    return {row: (steps[row][0], figures[column][0], steps[row][1]) for row, figures in TABLE7.items()}


def _ours(entry: Mapping[str, Any], steps: Mapping[str, Any]) -> dict[str, Point]:
    points = {}
    for label, method in entry["comparison"]["methods"].items():
        step = steps["methods"][label]
        points[label] = (step["images_per_second"], 100 * method["top1"], step["peak_memory_bytes"] / 1e9)
    return points


def _scatter(axes: Any, points: Mapping[str, Point], name: str) -> None:
    axes.set_title(name, fontsize=9, loc="left")
    if not points:
        axes.set_axis_off()
        return
    largest = max(memory for *_, memory in points.values())
    for index, (label, (speed, top1, memory)) in enumerate(points.items()):
        axes.scatter(speed, top1, s=LARGEST * memory / largest, alpha=0.45, linewidths=0, color=f"C{index}")
        above, side = (3, "bottom") if index % 2 else (-3, "top")  # neighbours may lie at the same height
        text = wrapped(label, 20)
        axes.annotate(text, (speed, top1), (0, above), textcoords="offset points", fontsize=7, ha="center", va=side)
    axes.margins(0.22)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"training, images/s; area: memory, at most {largest:.2f} GB", fontsize=8)
    axes.set_ylabel("top-1 accuracy, %", fontsize=8)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
