"""A figure that was measured several times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self


@dataclass(frozen=True)
class Spread:
    """The median of some samples, the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """Of one sample or more."""
        found = sorted(samples)
        return cls(median(found), found[0], found[-1])

    @property
    def range(self) -> tuple[float, float]:
        return self.least, self.most


COLUMNS = ("method", "top-1 %", "top-5 %", "lr", "images/s", "peak memory MB", "learned parameters", "on disk MB")


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a method, in the order of `COLUMNS`."""
    return [(label, *_cells(entry)) for label, entry in results["methods"].items() if "top1" in entry]


def markdown(results: Mapping[str, Any]) -> str:
    """The table with a line on where its figures come from."""
    seeds = {seed for entry in results["methods"].values() for seed in entry.get("runs", {})}
    return f"{markdown_table(COLUMNS, rows(results))}\n{origin(results, sorted(seeds))}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in (columns, ("---",) * len(columns), *rows))


def origin(results: Mapping[str, Any], seeds: Sequence[object]) -> str:
    """A line on where figures come from: command, source, recipe, machine."""
    source, recipe = results["source"], results["recipe"]
    return (
        f"`{results['command']}`: {source['architecture']} ({source['weights']}) at "
        f"{source['preprocessing']['image_size']} px, {recipe['epochs']} epochs, batch {recipe['batch_size']}, "
        f"precision {recipe['precision']}, seed {', '.join(map(str, seeds))}; {circumstances(results)}.\n"
    )


def circumstances(results: Mapping[str, Any]) -> str:
    """Machine, version and day of any results."""
    machine, version = results["hardware"], results["versions"]["torch"]
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    processor = machine["gpu"] or f"{machine['cpu']}{instructions}"
    return f"{processor}, {machine['cores']} cores; torch {version}, {results['date']}"


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    spread = f" ± {100 * entry['top1_std']:.1f}" if "top1_std" in entry else ""
    speed = f"{entry['images_per_second']:.0f}" if "images_per_second" in entry else "–"
    memory = f"{entry['peak_memory_bytes'] / 1e6:.0f}" if "peak_memory_bytes" in entry else "–"
    return (
        f"{100 * entry['top1']:.1f}{spread}",
        f"{100 * entry['top5']:.1f}",
        f"{entry['lr']:g}",
        speed,
        memory,
        f"{entry['learned_parameters']:,}",
        f"{entry['artifact_bytes'] / 1e6:.2f}",
    )
