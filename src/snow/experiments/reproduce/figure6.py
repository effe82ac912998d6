"""Figure 6: validation accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snow.experiments.plots.figure import check_picture_path, new_figure, save_figure
from snow.experiments.reproduce import accuracy
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.paper import CONVERGED, TABLE7
from snow.experiments.reproduce.sets import column_of, title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.reproduce.table7 import ROWS
from snow.experiments.results.record import provenance
from snow.experiments.results.table import markdown_table

VALIDATION = 0.1
"""Fraction of the training images, unless the recipe sets its own."""

NEAR = 0.99
"""Fraction of its best accuracy at which a method counts as converged."""

SUBFOLDER = "curves"


class Figure6(Experiment):
    name = "figure6"
    title = "Figure 6: validation accuracy over the epochs"
    deviations = (
        "The paper prints curves without numbers. What can be compared is their end (Table 7, dotted), and that all "
        f"methods converge by about {CONVERGED} epochs with a learning rate that drops every 30. The paper seems to "
        f"validate on its test images; here {VALIDATION:.0%} of the training images are set aside for validation, "
        "unless `--validation` says otherwise. Our learning rate follows a cosine to the last epoch, so the epoch of "
        "convergence depends on the number of epochs."
    )
    methods = accuracy.METHODS

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        return accuracy.estimates(_with_validation(settings), self.variants(settings), SUBFOLDER)

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        return {
            **provenance(),
            "sets": accuracy.run_comparisons(_with_validation(settings), self.variants(settings), SUBFOLDER),
        }

    def origins(self, results: Results) -> list[str]:
        return accuracy.origins(results["sets"])

    def body(self, results: Results) -> str:
        columns = (
            "dataset",
            "method",
            "best validation %",
            f"epoch at {NEAR:.0%} of it",
            "of epochs",
            "paper, all methods",
        )
        rows = []
        for entry in results["sets"]:
            for label, curve in _curves(entry).items():
                best = max(curve)
                near = next(epoch for epoch, value in enumerate(curve, 1) if value >= NEAR * best)
                cells = (f"{100 * best:.1f}", str(near), str(len(curve)), f"about {CONVERGED}")
                rows.append((title(entry), label, *cells))
        return markdown_table(columns, rows)

    def draw(self, results: Results, path: Path) -> None:
        check_picture_path(path)
        entries = results["sets"]
        figure = new_figure(8, 3.4 * len(entries))
        for entry, axes in zip(entries, figure.subplots(len(entries), squeeze=False).flatten(), strict=True):
            _lines(axes, entry)
        save_figure(figure, path)


def _with_validation(settings: ReproductionSettings) -> ReproductionSettings:
    recipe = settings.recipe
    return settings if recipe.validation else replace(settings, recipe=replace(recipe, validation=VALIDATION))


def _curves(entry: Mapping[str, Any]) -> dict[str, list[float]]:
    """Collect label -> validation accuracy after each epoch, of the first seed."""
    methods = entry["comparison"]["methods"]
    return {label: next(iter(method["runs"].values()))["validation"] for label, method in methods.items()}


def _lines(axes: Any, entry: Mapping[str, Any]) -> None:
    column = column_of(entry)
    for index, (label, curve) in enumerate(_curves(entry).items()):
        axes.plot(
            range(1, len(curve) + 1), [100 * fraction for fraction in curve], color=f"C{index}", label=label, marker="."
        )
        if column is not None and label in ROWS:
            axes.axhline(TABLE7[ROWS[label]][column][0], color=f"C{index}", linestyle=":", linewidth=0.9)
    dotted = f"; dotted: final accuracy in the paper on {entry['paper']}" if column is not None else ""
    axes.set_title(f"{title(entry)}{dotted}", fontsize=9, loc="left")
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("validation, top-1 %", fontsize=8)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
