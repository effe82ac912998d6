"""`snow choice` and `snow overlap`: which channels of the source the tasks of a hub select."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from snow.cli.app import command
from snow.cli.options import Json, Names
from snow.cli.output import note, print_json, print_table
from snow.experiments.plots.channels import draw_overlap, draw_selection
from snow.hub import Hub
from snow.hub.folder import read_selection_history
from snow.hub.overlap import Overlaps, overlaps

MAX_COLUMNS = 6
"""Most pairs of tasks that get a column of their own; more get a row."""

MAX_ROWS = 50
"""Most pairs in the table; JSON has all."""

choice = command("choice", "snow choice my-hub insects --plot choice.png")
overlap_app = command("overlap", "snow overlap my-hub insects textures --plot overlap.png")


@choice.default
def choice_command(
    hub: Path,
    task: str,
    /,
    *,
    taps: Names = (),
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Show which channels of each feature map a task selected during training.

    The selection is shown without the noise that training adds to it.

    Args:
        hub: folder of the hub.
        task: a task that was trained in this hub by a method that selects channels.
        taps: feature maps to show, as comma-separated names or patterns; (final) is the final feature vector.
        plot: write a plot with one panel per feature map: channels across, iterations down, epochs as dotted lines
            (.png, .svg or .pdf).
        json: print {"task", "batches", "steps", "taps": {TAP: {"channels", "taken", "ever", "from_start", "settled",
            "newcomers", "chosen"}}}. "newcomers" counts newly selected channels at each step after the first, "chosen"
            lists the channels selected at the last step.
    """
    history = read_selection_history(hub, task)
    if taps:
        history = history.only(taps)
    if plot is not None:
        draw_selection(history, f"channels selected by task {task}", plot)
        note(f"wrote {plot}")
    summaries = {tap: history.summary(tap) for tap in history.masks}
    if json:
        print_json({"task": task, "batches": history.batches, "steps": history.steps.tolist(), "taps": summaries})
        return
    rows = []
    for tap, entry in summaries.items():
        last_change = -(-entry["settled"] // history.batches)
        rows.append((tap, entry["channels"], entry["taken"], entry["from_start"], entry["ever"], last_change))
    print_table(("tap", "channels", "selected", "from the start", "ever selected", "last change in epoch"), rows)


@overlap_app.default
def overlap_command(hub: Path, /, *tasks: str, plot: Path | None = None, json: Json = False) -> None:
    """Show how much the channel selections of tasks overlap, for each feature map and pair of tasks.

    The measure is intersection over union: 1 if both tasks select the same channels, 0 if they have none in common. The
    number in brackets is its expected value if both tasks selected as many channels at random. With more than 6 pairs
    the table shows the mean over all feature maps, for the 50 pairs that overlap most.

    Args:
        hub: folder of the hub.
        tasks: two or more tasks; by default all that can answer and select channels.
        plot: write a plot with feature maps down and pairs of tasks across (.png, .svg or .pdf).
        json: print {"tasks", "pairs": [{"tasks", "taps": {TAP: {"both", "either", "iou", "chance"}}, "iou",
            "chance"}]}.
    """
    results = overlaps(Hub.open(hub), tasks)
    if len(results.names) < 2:
        note("warning: no two tasks that select channels can be opened")
    elif plot is not None:
        draw_overlap(results.to_dict(), f"channels that pairs of tasks of {hub.name} select", plot)
        note(f"wrote {plot}")
    if json:
        print_json(results.to_dict())
    elif len(results.names) < 2:
        return
    elif len(results.names) * (len(results.names) - 1) // 2 > MAX_COLUMNS:
        _print_closest(results)
    else:
        _print_by_tap(results.to_dict()["pairs"])


def _print_by_tap(pairs: Sequence[dict[str, Any]]) -> None:
    taps = dict.fromkeys(tap for pair in pairs for tap in pair["taps"])
    rows = [(tap, *(_cell(pair["taps"].get(tap)) for pair in pairs)) for tap in taps]
    columns = ("tap", *(" × ".join(pair["tasks"]) for pair in pairs))
    print_table(columns, [*rows, ("mean", *(_cell(pair) for pair in pairs))])


def _print_closest(results: Overlaps) -> None:
    rows = [
        (results.names[a], results.names[b], _cell(results.pair(a, b))) for a, b in islice(results.closest(), MAX_ROWS)
    ]
    print_table(("task", "task", "mean"), rows)
    count = len(results.names) * (len(results.names) - 1) // 2
    if count > MAX_ROWS:
        print(f"… and {count - MAX_ROWS:,} pairs that overlap less: --json has all")


def _cell(entry: dict[str, float] | None) -> str:
    return "" if entry is None else f"{entry['iou']:.2f} ({entry['chance']:.2f})"
