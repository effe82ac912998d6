"""A plan as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("replicas", "goal", "load %", "busy %", "p50 ms", "p95 ms", "p99 ms", "refused %", "batch", "memory GB")


def rows(results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """In the order of `COLUMNS`. A replica may be busy at little load: small passes cost more."""
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
    """Lines to read below the table."""
    memory, device = results["memory_bytes"], results["device_memory_bytes"]
    on_device = f" and {device['replica'] / 1e9:.2f} GB on its GPU" if device else ""
    each = results["tasks_a_picture"]
    asked = f"{each} of {results['tasks']} tasks" if each != "all" else f"all of {results['tasks']} tasks"
    yield (
        f"{results['rate']:g} pictures/s, each for {asked}, with a p99 of {1000 * results['goal']['p99']:g} ms: "
        f"{results['replicas']} {'replica' if results['replicas'] == 1 else 'replicas'}, "
        f"{memory['replica'] / 1e9:.2f} GB each{on_device}, {memory['all'] / 1e9:.2f} GB in all"
    )
    yield (
        f"a replica answers {results['capacity_per_second']:.1f} pictures/s at most; "
        f"a picture that comes alone takes {1000 * results['least_latency']:.1f} ms"
    )
