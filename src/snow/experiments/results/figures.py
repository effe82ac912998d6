"""The figures of results files: those of the kind of label that was measured, as means over runs and as cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from snow.kinds import ClassKind, Figure, LabelKind, kind_named

SHOWN = 2
"""Figures of a kind that tables show."""


def kind_entry(kind: LabelKind) -> dict[str, str]:
    """Return what a results file says about the kind of label; nothing for classes, as version 0.1.0 wrote it."""
    return {} if isinstance(kind, ClassKind) else {"kind": kind.name}


def shown_figures(results: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return the figures that tables of these results show, the headline first."""
    return kind_named(results.get("kind", ClassKind.name)).figures[:SHOWN]


def mean_figures(figures: Sequence[Figure], runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Average the shown figures over runs, with the standard deviation of the first."""
    first, *others = (figure.key for figure in figures[:SHOWN])
    return {
        first: mean(run[first] for run in runs),
        **({f"{first}_std": stdev(run[first] for run in runs)} if len(runs) > 1 else {}),
        **{key: mean(run[key] for run in runs) for key in others},
    }


def figure_title(figure: Figure) -> str:
    """Name the column of a figure: `top-1 %`."""
    return f"{figure.title}{' %' * figure.is_fraction}"


def figure_cell(entry: Mapping[str, Any], figure: Figure) -> str:
    """Write a figure with its standard deviation, if there is one: `81.2 ± 0.4`."""
    scale, digits = (100, 1) if figure.is_fraction else (1, 3)
    spread = entry.get(f"{figure.key}_std")
    return f"{scale * entry[figure.key]:.{digits}f}" + ("" if spread is None else f" ± {scale * spread:.{digits}f}")
