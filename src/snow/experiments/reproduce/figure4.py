"""Figure 4: accuracy against training speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.comparison import wrap_label
from snow.experiments.plots.figure import check_picture_path, new_figure, save_figure
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

ScatterPoint = tuple[float, float, float]
"""(images/s, top-1 in percent, memory in GB)."""


class Figure4(Experiment):
    name = "figure4"
    title = "Figure 4: accuracy against training speed"
    deviations = (
        "It combines Tables 7 and 8 and shares their differences. The memory in the paper is at different batch "
        "sizes, ours is at one. Speeds are measured with 196 classes on images in memory, accuracies with the source "
        "and dataset named below each."
    )
    methods = accuracy.METHODS

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        return [
            *accuracy.estimates(settings, self.variants(settings)),
            *table8.estimate_steps(_of_source(settings), self.variants(settings)),
        ]

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        sets = accuracy.run_comparisons(settings, self.variants(settings))
        return {
            **provenance(),
            "sets": sets,
            "steps": table8.measure_steps(_of_source(settings), self.variants(settings)),
        }

    def origins(self, results: Results) -> list[str]:
        return [*accuracy.origins(results["sets"])[:-1], f"- {table8.Table8().origins(results['steps'])[0]}"]

    def panels(self, results: Results) -> list[Panel]:
        panels = []
        for entry in results["sets"]:
            paper, measured = _paper_points(entry), _measured_points(entry, results["steps"])
            for index, quantity in ((1, "top-1 %"), (0, "images/s")):
                rows: dict[str, Pair] = {}
                for label, point in measured.items():
                    known = paper.get(table8.ROWS.get(label, ""))
                    rows[label] = (known[index] if known else None, point[index])
                panels.append(Panel(f"{title(entry)}, {quantity}", rows, accuracy.paper_label(entry)))
        return panels

    def draw(self, results: Results, path: Path) -> None:
        check_picture_path(path)
        entries = results["sets"]
        if not entries:
            raise SnowError("nothing to draw: no dataset was measured")
        figure = new_figure(10, 3.6 * len(entries))
        grid = figure.subplots(len(entries), 2, squeeze=False)
        for entry, (left, right) in zip(entries, grid, strict=True):
            _scatter(left, _paper_points(entry), f"paper, {entry['paper'] or 'without this dataset'}")
            _scatter(right, _measured_points(entry, results["steps"]), f"here, {title(entry)}")
        save_figure(figure, path)


def _of_source(settings: ReproductionSettings) -> ReproductionSettings:
    """Measure speeds on the source that accuracies are measured with."""
    return replace(
        settings, architecture=settings.source.architecture, image_size=settings.source.preprocessing.image_size
    )


def _paper_points(entry: Mapping[str, Any]) -> dict[str, ScatterPoint]:
    column = column_of(entry)
    if column is None:
        return {}
    steps = {row: figures[column] for row, figures in TABLE8.items()}
    return {row: (steps[row][0], figures[column][0], steps[row][1]) for row, figures in TABLE7.items()}


def _measured_points(entry: Mapping[str, Any], steps: Mapping[str, Any]) -> dict[str, ScatterPoint]:
    points = {}
    for label, method in entry["comparison"]["methods"].items():
        step = steps["methods"][label]
        points[label] = (step["images_per_second"], 100 * method["top1"], step["peak_memory_bytes"] / 1e9)
    return points


def _scatter(axes: Any, points: Mapping[str, ScatterPoint], name: str) -> None:
    axes.set_title(name, fontsize=9, loc="left")
    if not points:
        axes.set_axis_off()
        return
    largest = max(memory for *_, memory in points.values())
    for index, (label, (speed, top1, memory)) in enumerate(points.items()):
        axes.scatter(speed, top1, s=LARGEST * memory / largest, alpha=0.45, linewidths=0, color=f"C{index}")
        above, side = (3, "bottom") if index % 2 else (-3, "top")  # alternate: neighbours may have the same accuracy
        text = wrap_label(label, 20)
        axes.annotate(text, (speed, top1), (0, above), textcoords="offset points", fontsize=7, ha="center", va=side)
    axes.margins(0.22)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"training, images/s; area: memory, at most {largest:.2f} GB", fontsize=8)
    axes.set_ylabel("top-1 accuracy, %", fontsize=8)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
