"""Figure 6: validation accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snow.experiments.plots.figure import check, new_figure, save
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
"""Of the training pictures, unless the recipe has its own share."""

NEAR = 0.99
"""Of its best accuracy, at which a method counts as converged."""

ROOM = "curves"


class Figure6(Experiment):
    name = "figure6"
    title = "Figure 6: validation accuracy over the epochs"
    differs = (
        "The paper's curves are pictures without figures: what can be compared is where they end (Table 7, dotted), "
        f"and that all have converged by about {CONVERGED} epochs at a rate that falls every 30. Its validation "
        f"pictures seem to be its test pictures; here they are {VALIDATION:.0%} of the training pictures, unless "
        "`--validation` says otherwise, which the methods then lack. The rate falls along a cosine to the last epoch, "
        "so where a method converges follows the number of epochs."
    )
    methods = accuracy.METHODS

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        return accuracy.costs(_validated(work), self.variants(work), ROOM)

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        return {**provenance(), "sets": accuracy.compared(_validated(work), self.variants(work), ROOM)}

    def origins(self, results: Results) -> list[str]:
        return accuracy.origins(results["sets"])

    def body(self, results: Results) -> str:
        columns = (
            "set",
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
                near = next(epoch for epoch, one in enumerate(curve, 1) if one >= NEAR * best)
                cells = (f"{100 * best:.1f}", str(near), str(len(curve)), f"about {CONVERGED}")
                rows.append((title(entry), label, *cells))
        return markdown_table(columns, rows)

    def draw(self, results: Results, path: Path) -> None:
        check(path)
        entries = results["sets"]
        figure = new_figure(8, 3.4 * len(entries))
        for entry, axes in zip(entries, figure.subplots(len(entries), squeeze=False).flatten(), strict=True):
            _lines(axes, entry)
        save(figure, path)


def _validated(work: ReproductionSettings) -> ReproductionSettings:
    recipe = work.recipe
    return work if recipe.validation else replace(work, recipe=replace(recipe, validation=VALIDATION))


def _curves(entry: Mapping[str, Any]) -> dict[str, list[float]]:
    """Label -> validation accuracy after each epoch, of its first seed."""
    methods = entry["comparison"]["methods"]
    return {label: next(iter(method["runs"].values()))["validation"] for label, method in methods.items()}


def _lines(axes: Any, entry: Mapping[str, Any]) -> None:
    column = column_of(entry)
    for index, (label, curve) in enumerate(_curves(entry).items()):
        axes.plot(range(1, len(curve) + 1), [100 * one for one in curve], color=f"C{index}", label=label, marker=".")
        if column is not None and label in ROWS:
            axes.axhline(TABLE7[ROWS[label]][column][0], color=f"C{index}", linestyle=":", linewidth=0.9)
    dotted = f"; dotted: where the paper's end on {entry['paper']}" if column is not None else ""
    axes.set_title(f"{title(entry)}{dotted}", fontsize=9, loc="left")
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("validation, top-1 %", fontsize=8)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
