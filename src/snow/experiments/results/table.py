"""What the tables of all experiments share: a median with its range, Markdown, and the line that names the origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of repeated measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """Summarise one sample or more."""
        ascending = sorted(samples)
        return cls(median(ascending), ascending[0], ascending[-1])

    @property
    def range(self) -> tuple[float, float]:
        return self.least, self.most


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in (columns, ("---",) * len(columns), *rows))


def origin(results: Mapping[str, Any], seeds: Sequence[object]) -> str:
    """Write one line on where trained results come from: command, source, recipe, seeds, machine."""
    source, recipe = results["source"], results["recipe"]
    return (
        f"`{results['command']}`: {source['architecture']} ({source['weights']}) at "
        f"{source['preprocessing']['image_size']} px, {recipe['epochs']} epochs, batch {recipe['batch_size']}, "
        f"precision {recipe['precision']}, seed {', '.join(map(str, seeds))}; {environment(results)}.\n"
    )


def environment(results: Mapping[str, Any]) -> str:
    """Name machine, torch version and date of any results."""
    machine, version = results["hardware"], results["versions"]["torch"]
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    processor = machine["gpu"] or f"{machine['cpu']}{instructions}"
    return f"{processor}, {machine['cores']} cores; torch {version}, {results['date']}"
