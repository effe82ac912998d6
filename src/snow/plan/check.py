"""A plan beside what a service did under the same load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snow.compare.table import circumstances, markdown_table

COLUMNS = ("load", "", "measured", "planned", "off by")

FIGURES = {"per_second": "pictures/s", "p50": "p50 ms", "p99": "p99 ms", "batch": "pictures a pass"}
"""What is set side by side."""


def beside(measured: Mapping[str, float], planned: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Of each figure that both have: measured, planned, and by which part of the measured one the plan is off."""
    return {
        name: {
            "measured": measured[name],
            "planned": round(planned[name], 3),
            "off": round(planned[name] / measured[name] - 1, 3),
        }
        for name in FIGURES
        if name in measured and name in planned
    }


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """In the order of `COLUMNS`."""
    return [
        (
            load,
            FIGURES[name],
            f"{one['measured']:.1f}",
            f"{one['planned']:.1f}",
            f"{100 * one['off']:+.0f} %",
        )
        for load, figures in results["planned"].items()
        for name, one in figures.items()
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """The table, and a line on where the figures come from."""
    return (
        f"{markdown_table(COLUMNS, rows(results))}\n"
        f"`{results['command']}`: {results['source_name']} (random weights) at {results['image_size']} px, "
        f"{results['tasks']} tasks asked about every picture, engine {results['engine']}, batches of up to "
        f"{results['max_batch']}, {results['seconds']:g} s each load, with the clients on the "
        f"same machine; {circumstances(results)}.\n"
    )
