"""What a task's start was chosen by, in lines for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snow.cli.output import percent

INPUT_NAMES = {"final": "final features", "answers": "answers of the source", "moments": "moments of channels"}


def evidence_lines(evidence: Mapping[str, Any]) -> list[str]:
    """Say what the start reads, what left-out pictures said of it, and whether training was better."""
    if not evidence:
        return []
    chosen = evidence["chosen"]
    inputs = ", ".join(f"{count:,} {INPUT_NAMES[name]}" for name, count in chosen["inputs"].items())
    rank = "" if chosen["rank"] is None else f" at rank {chosen['rank']}"
    lines = [f"start: {inputs}{rank}; {_figures(chosen)} on {evidence['left_out']} left-out pictures"]
    alone = [layout for layout in evidence["layouts"] if layout is not chosen and list(layout["inputs"]) == ["final"]]
    if alone and alone[0] != chosen:
        lines[0] += f" (final features alone {_short(alone[0])})"
    training = evidence.get("training")
    if training is None:
        return lines
    if not training["held_out"]:
        return [*lines, "kept: the start; there are too few pictures to tell whether training is better"]
    start, epochs = training["start"], training["epochs"]
    if training["kept"] == "start":
        return [*lines, f"kept: the start; no epoch was better on {training['held_out']} held-out pictures"]
    best = epochs[int(training["kept"].removeprefix("epoch ")) - 1]
    share = f", {best['share']:.0%} of it trained" if "share" in best else ""
    return [
        *lines,
        f"kept: {training['kept']}{share}; {_figures(best)} on {training['held_out']} held-out pictures "
        f"(start {_short(start)})",
    ]


def _figures(measured: Mapping[str, Any]) -> str:
    """Write loss and share of right answers, or the part of a number's variance that is explained."""
    if "r2" in measured:
        return f"R² {measured['r2']:.2f}"
    return f"log-loss {measured['loss']:.3f}, {percent(measured['accuracy'])} right"


def _short(measured: Mapping[str, Any]) -> str:
    if "r2" in measured:
        return f"{measured['r2']:.2f}"
    return f"{measured['loss']:.3f}, {percent(measured['accuracy'])}"
