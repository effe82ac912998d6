"""Lay the results of `measure_training` out as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snow.experiments.bench.training import PHASES
from snow.experiments.results.table import environment, markdown_table

SPEED_COLUMNS = ("", "images/s", "range", "from files", "memory MB", "× ft", "memory × ft", "of source")
PHASE_COLUMNS = ("ms per image", *PHASES)

TIMES = "milliseconds_per_image"
Rows = list[tuple[str, ...]]


def speeds(results: Mapping[str, Any]) -> Rows:
    """Lay out the rows under `SPEED_COLUMNS`: methods, then limits."""
    return [(name, *_cells(entry)) for name, entry in _named(results).items()]


def phases(results: Mapping[str, Any]) -> Rows:
    """Lay out the rows under `PHASE_COLUMNS`, for those with phases."""
    times = {name: entry[TIMES] for name, entry in _named(results).items() if TIMES in entry}
    return [(name, *(f"{ms[phase]:.2f}" if phase in ms else "" for phase in PHASES)) for name, ms in times.items()]


def markdown(results: Mapping[str, Any]) -> str:
    """Write both tables, and the line on their origin."""
    cached = results["cached"]
    return (
        f"{markdown_table(SPEED_COLUMNS, speeds(results))}\n{markdown_table(PHASE_COLUMNS, phases(results))}\n"
        f"`{results['command']}`: {results['source']} (random weights) at {results['image_size']} px, batch "
        f"{results['batch_size']}, precision {results['precision']}{f', cache in {cached}' if cached else ''}, "
        f"{results['rounds']} rounds; {environment(results)}.\n"
    )


def _named(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {**results["methods"], **{f"limit: {name}": entry for name, entry in results["limits"].items()}}


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    least, most = entry.get("images_per_second_range", (None, None))
    memory = entry.get("peak_memory_bytes")
    return (
        _figure(entry.get("images_per_second")),
        "" if least is None else f"{_figure(least)}–{_figure(most)}",
        _figure(entry.get("pipeline_images_per_second")),
        "" if memory is None else f"{memory / 1e6:,.0f}",
        _figure(entry.get("over_ft")),
        _figure(entry.get("memory_over_ft")),
        _figure(entry.get("over_source")),
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
