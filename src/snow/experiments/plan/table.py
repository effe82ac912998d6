"""Lay out a plan, and its comparison with a real service, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from snow.experiments.results.table import environment, markdown_table

COLUMNS = ("replicas", "goal", "load %", "busy %", "p50 ms", "p95 ms", "p99 ms", "refused %", "batch", "memory GB")


def rows(results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Lay out the rows under `COLUMNS`. Busy can exceed load: small batches cost more per picture."""
    for row in results["rows"]:
        needed = " (needed)" if row["replicas"] == results["replicas"] else ""
        yield (
            str(row["replicas"]),
            ("met" if row["met"] else "missed") + needed,
            f"{100 * row['of_capacity']:.0f}",
            f"{100 * row['utilisation']:.0f}",
            *("–" if row[name] is None else f"{1000 * row[name]:.1f}" for name in ("p50", "p95", "p99")),
            f"{100 * row['refused']:.2f}",
            "–" if row["batch"] is None else f"{row['batch']:.1f}",
            f"{row['memory_bytes'] / 1e9:.2f}",
        )


def summary(results: Mapping[str, Any]) -> Iterator[str]:
    """Write the lines below the table."""
    memory, device = results["memory_bytes"], results["device_memory_bytes"]
    on_device = f" and {device['replica'] / 1e9:.2f} GB on its GPU" if device else ""
    mix = results["tasks_a_picture"]
    requested = f"{mix} of {results['tasks']} tasks" if mix != "all" else f"all of {results['tasks']} tasks"
    yield (
        f"{results['rate']:g} pictures/s, each for {requested}, with a p99 of {1000 * results['goal']['p99']:g} ms: "
        f"{results['replicas']} {'replica' if results['replicas'] == 1 else 'replicas'}, "
        f"{memory['replica'] / 1e9:.2f} GB each{on_device}, {memory['all'] / 1e9:.2f} GB in all"
    )
    yield (
        f"a replica answers {results['capacity_per_second']:.1f} pictures/s at most; "
        f"on an idle replica a picture takes {1000 * results['least_latency']:.1f} ms"
    )


CHECK_COLUMNS = ("load", "", "measured", "planned", "off by")

FIGURES = {"per_second": "pictures/s", "p50": "p50 ms", "p99": "p99 ms", "batch": "pictures per pass"}
"""Figures of an outcome that are compared, with their headings."""


def compare_figures(
    measured: Sequence[Mapping[str, float]], planned: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """Compare plans with loads that were measured once or several times.

    Returns:
        figure -> `measured` and `planned`, each with its median, least and most, and `off`, the relative error of the
        median of the plans.
    """
    compared = {}
    for name in FIGURES:
        if name in measured[0] and name in planned[0]:
            load, plan = (_spread([figures[name] for figures in runs]) for runs in (measured, planned))
            off = round(plan["median"] / load["median"] - 1, 3)
            compared[name] = {"measured": load, "planned": plan, "off": off}
    return compared


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def check_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay out the rows under `CHECK_COLUMNS`."""
    return [
        (
            load,
            FIGURES[name],
            _range(figure["measured"]),
            _range(figure["planned"]),
            f"{100 * figure['off']:+.0f} %",
        )
        for load, figures in results["planned"].items()
        for name, figure in figures.items()
    ]


def _range(figure: Mapping[str, float] | float) -> str:
    """Write a median with its range; results of version 0.2.0 and before hold one value."""
    if isinstance(figure, Mapping):
        return f"{figure['median']:.1f} ({figure['least']:.1f}–{figure['most']:.1f})"
    return f"{figure:.1f}"


def check_table(results: Mapping[str, Any]) -> str:
    """Write the table, and the line on its origin."""
    repeats = f"medians and ranges of {results['repeats']} plans and as many loads, " if "repeats" in results else ""
    return (
        f"{markdown_table(CHECK_COLUMNS, check_rows(results))}\n"
        f"`{results['command']}`: {results['source_name']} (random weights) at {results['image_size']} px, "
        f"{results['tasks']} tasks per picture, engine {results['engine']}, batches of up to "
        f"{results['max_batch']}, {repeats}{results['seconds']:g} s each load, with the clients on the "
        f"same machine; {environment(results)}.\n"
    )
