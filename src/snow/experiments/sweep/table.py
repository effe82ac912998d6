"""Lay out a sweep as a table, like the paper's Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from snow.experiments.sweep.options import OptionValues, Value

COLUMNS = ("option", "value", "top-1 %", "top-5 %", "learned parameters")


def curve(
    name: str, values: Sequence[Value], centre: Mapping[str, Value], trials: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Summarise one option from the trials that change nothing else: one entry per value.

    Args:
        trials: as in the results of `run_sweep`.

    Returns:
        `{"value", "is_centre", "runs"}` as JSON values. If a run did not diverge also the means `"top1"` and `"top5"`,
        `"top1_std"` if there are several, `"images"` and `"learned_parameters"`.
    """
    entries = []
    for value in values:
        setting = {} if value == centre[name] else {name: value}
        runs = [trial for trial in trials if trial["setting"] == setting and "top1" in trial]
        entry: dict[str, Any] = {"value": value, "is_centre": not setting, "runs": len(runs)}
        if runs:
            entry |= {key: mean(run[key] for run in runs) for key in ("top1", "top5")}
            entry |= {key: runs[0][key] for key in ("images", "learned_parameters")}
        if len(runs) > 1:
            entry["top1_std"] = stdev(run["top1"] for run in runs)
        entries.append(entry)
    return entries


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay out the rows under `COLUMNS`: each option with each value, then the best three of the search."""
    table = [(name, *_cells(entry)) for name, entries in results["over"].items() for entry in entries]
    searched = sorted(
        (trial for trial in results["trials"] if trial["searched"] and "top1" in trial),
        key=lambda trial: -trial["top1"],
    )
    return table + [("search", _short(trial["setting"]), *_figures(trial)) for trial in searched[:3]]


def format_value(value: Value) -> str:
    """Format an option value with at most four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(setting: OptionValues) -> str:
    return " ".join(f"{name}={format_value(value)}" for name, value in setting.items()) or "default"


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    value = f"{format_value(entry['value'])}{' (default)' if entry['is_centre'] else ''}"
    return (value, *_figures(entry)) if "top1" in entry else (value, "diverged", "", "")


def _figures(entry: Mapping[str, Any]) -> tuple[str, ...]:
    spread = f" ± {100 * entry['top1_std']:.1f}" if "top1_std" in entry else ""
    return f"{100 * entry['top1']:.1f}{spread}", f"{100 * entry['top5']:.1f}", f"{entry['learned_parameters']:,}"
