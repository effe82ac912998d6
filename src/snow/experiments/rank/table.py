"""The table of ranked sources, the choice among them in one sentence, and the correlation of two rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snow.errors import SnowError
from snow.experiments.rank.rank import limited

COLUMNS = ("source", "px", "accuracy", "± ", "linear probe", "log-loss", "ms", "images/s", "memory MB", "parameters")


def table_rows(entries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Format the sources, the best first; those that failed come last."""
    rows = []
    for key in limited(entries, None, None):
        entry = entries[key]
        rows.append(
            (
                str(entry["source"]),
                str(entry["image_size"]),
                f"{entry['accuracy']:.1%}",
                f"{standard_error(entry):.1%}",
                f"{entry['probe_accuracy']:.1%}",
                f"{entry['loss']:.3f}",
                f"{1e3 * entry['seconds_per_picture']:.0f}",
                f"{entry['images_per_second']:.1f}",
                f"{entry['memory_bytes'] / 1e6:.0f}",
                f"{entry['parameters']:,}",
            )
        )
    failed = [entry for entry in entries.values() if "failed" in entry]
    return [*rows, *((str(entry["source"]), *[""] * (len(COLUMNS) - 1)) for entry in failed)]


def standard_error(entry: Mapping[str, Any]) -> float:
    """Compute the standard error of an accuracy over the left-out pictures."""
    return (entry["accuracy"] * (1 - entry["accuracy"]) / entry["left_out"]) ** 0.5


def choose(
    entries: Mapping[str, Mapping[str, Any]], within: float | None = None, memory: int | None = None
) -> tuple[str | None, str]:
    """Choose a source, and say why in one sentence; None if none keeps to the limits."""
    kept = limited(entries, within, memory)
    limits = [] if within is None else [f"{1e3 * within:g} ms a picture"]
    limits += [] if memory is None else [f"{memory / 1e6:g} MB"]
    under = f" within {' and '.join(limits)}" if limits else ""
    if not kept:
        return None, f"No source answers{under}: raise the limit, or name smaller sources or sizes."
    best, *others = (entries[key] for key in kept)
    accuracy, error = best["accuracy"], standard_error(best)
    sentence = (
        f"{_name(best)} knows most about these pictures{under}: {accuracy:.1%} of {best['left_out']} left-out pictures "
        f"are right ({best['probe_accuracy']:.1%} by a linear probe) at {1e3 * best['seconds_per_picture']:.0f} ms a "
        "picture"
    )
    speed = best["images_per_second"]
    near = [entry for entry in others if accuracy - entry["accuracy"] <= error and entry["images_per_second"] > speed]
    if near:
        fastest = max(near, key=lambda entry: entry["images_per_second"])
        sentence += (
            f"; {_name(fastest)} is {fastest['images_per_second'] / speed:.1f} times as fast, and within the error of "
            f"{error:.1%} with {fastest['accuracy']:.1%}"
        )
    elif others:
        sentence += f"; next is {_name(others[0])} with {others[0]['accuracy']:.1%}"
    return kept[0], f"{sentence}."


def choose_size(entries: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """Choose the smallest size of one source that is within the error of the best one, and say why.

    Raises:
        SnowError: the source could be measured at no size.
    """
    measured = sorted((entry for entry in entries.values() if "failed" not in entry), key=lambda e: e["image_size"])
    if not measured:
        raise SnowError(f"no image size could be measured: {next(iter(entries.values()))['failed']}")
    best = max(measured, key=lambda entry: entry["accuracy"])
    chosen = next(e for e in measured if e["accuracy"] >= best["accuracy"] - standard_error(best))
    sizes = ", ".join(f"{entry['accuracy']:.1%} at {entry['image_size']} px" for entry in measured)
    return chosen["image_size"], (
        f"{chosen['image_size']} px is the smallest within the error of {standard_error(best):.1%} ({sizes})"
    )


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['source']} at {entry['image_size']} px"


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Compute the rank correlation of two lists (Kendall, 1938): pairs in the same order minus others, of all pairs.

    Pairs that are equal in one list count as neither (tau-a).
    """
    pairs = [(i, j) for i in range(len(left)) for j in range(i)]
    agreeing = sum(_sign(left[i] - left[j]) * _sign(right[i] - right[j]) for i, j in pairs)
    return agreeing / max(1, len(pairs))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
