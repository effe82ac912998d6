"""What the first page of the report asks of the results: one table's files, one figure, the accuracies of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.accuracy import PER_CHANNEL_VARIANT
from snow.experiments.reproduce.paper import TABLE7
from snow.experiments.reproduce.sets import column_of

Result = Mapping[str, Any]


def chance(first: float, second: float, images: int) -> float:
    """Two standard errors of a difference of two accuracies, all in percent."""
    return 2 * sum(value * (100 - value) / images for value in (first, second)) ** 0.5


def of(measured: Sequence[Result], name: str) -> list[Result]:
    return [result for result in measured if result.get("experiment") == name]


def row(result: Result, panel: str, label: str) -> tuple[float, float] | None:
    """The paper's figure and ours in a panel of a result; None if one of them is missing."""
    panels = {one.title: one for one in EXPERIMENTS[result["experiment"]].panels(result)}
    paper, here = panels[panel].rows.get(label, (None, None)) if panel in panels else (None, None)
    return None if paper is None or here is None else (paper, here)


@dataclass(frozen=True)
class Accuracies:
    """What one results file has of a dataset: top-1 in percent by method."""

    entry: Mapping[str, Any]
    top1: Mapping[str, float]
    epochs: int

    @property
    def paper(self) -> dict[str, float]:
        column = column_of(self.entry)
        return {} if column is None else {row: figures[column][0] for row, figures in TABLE7.items()}


def accuracies(measured: Sequence[Result]) -> list[Accuracies]:
    """For each dataset of Table 7, the results with most methods, of these those with most epochs."""
    best: dict[str, Accuracies] = {}
    for result in of(measured, "table7"):
        for entry in result["sets"]:
            methods = {label: 100 * one["top1"] for label, one in entry["comparison"]["methods"].items()}
            one = Accuracies(entry, methods, entry["comparison"]["recipe"]["epochs"])
            if PER_CHANNEL_VARIANT in methods:
                known = best.setdefault(entry["set"], one)
                if (len(one.top1), one.epochs) > (len(known.top1), known.epochs):
                    best[entry["set"]] = one
    return sorted(best.values(), key=lambda one: one.entry["set"] != "cars196-own-split")
