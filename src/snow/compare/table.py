"""A comparison as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.plots.figure import new_figure, save

COLUMNS = ("method", "top-1 %", "top-5 %", "lr", "images/s", "peak memory MB", "learned parameters", "on disk MB")


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a method, in the order of `COLUMNS`."""
    return [(label, *_cells(entry)) for label, entry in results["methods"].items() if "top1" in entry]


def markdown(results: Mapping[str, Any]) -> str:
    """The table with a line on where its figures come from."""
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows(results))]
    source, recipe, machine = results["source"], results["recipe"], results["hardware"]
    seeds = {seed for entry in results["methods"].values() for seed in entry.get("runs", {})}
    lines += [
        "",
        f"`{results['command']}`: {source['architecture']} ({source['weights']}) at "
        f"{source['preprocessing']['image_size']} px, {recipe['epochs']} epochs, batch {recipe['batch_size']}, "
        f"seed {', '.join(sorted(seeds))}; {machine['gpu'] or machine['cpu']}, {machine['cores']} cores; "
        f"torch {results['versions']['torch']}, {results['date']}.",
    ]
    return "\n".join(lines) + "\n"


def picture(results: Mapping[str, Any], path: Path) -> None:
    """Accuracy against training speed, the area of a circle for memory, as in the paper's Figure 4.

    Raises:
        SnowError: matplotlib is not installed, the path cannot be written, or nothing was measured.
    """
    measured = {
        label: entry for label, entry in results["methods"].items() if {"top1", "images_per_second"} <= set(entry)
    }
    if not measured:
        raise SnowError("there is nothing to draw: no method has both accuracy and speed")
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    largest = max(entry["peak_memory_bytes"] for entry in measured.values())
    for label, entry in measured.items():
        x, y = entry["images_per_second"], 100 * entry["top1"]
        axes.scatter(x, y, s=2500 * entry["peak_memory_bytes"] / largest, alpha=0.5, linewidths=0)
        axes.annotate(label, (x, y), ha="center", va="center", fontsize=9)
    axes.set_xlabel("training, images/s")
    axes.set_ylabel("top-1 accuracy, %")
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    axes.set_title("area: peak training memory", fontsize=9, loc="right")
    save(figure, path)


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
