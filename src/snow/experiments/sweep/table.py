"""Lay out a sweep as a table, like the paper's Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snow.experiments.results.figures import figure_cell, figure_title, mean_figures, shown_figures
from snow.experiments.sweep.options import OptionValues, Value
from snow.kinds import ClassKind, Figure


def curve(
    name: str,
    values: Sequence[Value],
    centre: Mapping[str, Value],
    trials: Sequence[Mapping[str, Any]],
    figures: Sequence[Figure] = ClassKind.figures,
) -> list[dict[str, Any]]:
    """Summarise one option from the trials that change nothing else: one entry per value.

    Args:
        trials: as in the results of `run_sweep`.
        figures: of the kind of label.

    Returns:
        `{"value", "is_centre", "runs"}` as JSON values. If a run did not diverge also the means of figures, such as
        `"top1"` and `"top5"`, `"top1_std"` if there are several, `"images"` and `"learned_parameters"`.
    """
    entries = []
    for value in values:
        setting = {} if value == centre[name] else {name: value}
        runs = [trial for trial in trials if trial["setting"] == setting and figures[0].key in trial]
        entry: dict[str, Any] = {"value": value, "is_centre": not setting, "runs": len(runs)}
        if runs:
            entry |= mean_figures(figures, runs)
            entry |= {key: runs[0][key] for key in ("images", "learned_parameters")}
        entries.append(entry)
    return entries


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay out the rows under `columns`: each option with each value, then the best three of the search."""
    figures = shown_figures(results)
    table = [(name, *_cells(entry, figures)) for name, entries in results["over"].items() for entry in entries]
    searched = sorted(
        (trial for trial in results["trials"] if trial["searched"] and score_of(trial) is not None),
        key=lambda trial: -(score_of(trial) or 0.0),
    )
    return table + [("search", _short(trial["setting"]), *_figures(trial, figures)) for trial in searched[:3]]


def columns(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns: the option, its value, what its kind of label is measured by, and parameters."""
    return ("option", "value", *map(figure_title, shown_figures(results)), "learned parameters")


def score_of(result: Mapping[str, Any]) -> float | None:
    """Return what trials are ranked by, higher is better: the score, which of classes is top-1; None: it diverged."""
    return result.get("score", result.get("top1"))


def format_value(value: Value) -> str:
    """Format an option value with at most four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(setting: OptionValues) -> str:
    return " ".join(f"{name}={format_value(value)}" for name, value in setting.items()) or "default"


def _cells(entry: Mapping[str, Any], figures: Sequence[Figure]) -> tuple[str, ...]:
    value = f"{format_value(entry['value'])}{' (default)' if entry['is_centre'] else ''}"
    return (value, *_figures(entry, figures)) if figures[0].key in entry else (value, "diverged", "", "")


def _figures(entry: Mapping[str, Any], figures: Sequence[Figure]) -> tuple[str, ...]:
    return (*(figure_cell(entry, figure) for figure in figures), f"{entry['learned_parameters']:,}")
