"""`snow choice`."""

from __future__ import annotations

from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Json, Names
from snow.cli.output import note, print_json, print_table
from snow.experiments.plots.channels import draw_choice
from snow.hub.folder import read_selection_history

app = command("choice", "snow choice my-hub insects --plot choice.png")


@app.default
def choice_command(
    hub: Path,
    task: str,
    /,
    *,
    taps: Names = (),
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Show which channels of each feature map a task took while it was trained, without the noise of training.

    Args:
        hub: its folder.
        task: one that `snow train` has trained in it, by a method that chooses channels.
        taps: feature maps to show, names or patterns, with commas between; (final) stands for the final features.
        plot: picture with channels across, iterations down and epochs dotted, a panel a map (.png, .svg or .pdf).
        json: print {"task", "batches", "steps", "taps": {TAP: {"channels", "taken", "ever", "from_start", "settled",
            "newcomers", "chosen"}}}: newcomers at each step after the first, chosen at the last one.
    """
    history = read_selection_history(hub, task)
    if taps:
        history = history.only(taps)
    if plot is not None:
        draw_choice(history, f"channels taken by task {task}", plot)
        note(f"{plot} is drawn")
    summaries = {tap: history.summary(tap) for tap in history.masks}
    if json:
        print_json(
            {"task": task, "batches": history.batches, "steps": history.steps.tolist(), "taps": summaries},
        )
        return
    print_table(
        ("tap", "channels", "taken", "from the start", "ever taken", "last change in epoch"),
        [
            (
                tap,
                entry["channels"],
                entry["taken"],
                entry["from_start"],
                entry["ever"],
                -(-entry["settled"] // history.batches),
            )
            for tap, entry in summaries.items()
        ],
    )
