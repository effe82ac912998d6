"""`snow overlap`."""

from __future__ import annotations

from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Json
from snow.cli.output import note, print_json, print_table
from snow.experiments.plots.channels import draw_overlap
from snow.hub import Hub
from snow.hub.overlap import overlap

app = command("overlap", "snow overlap my-hub insects textures --plot overlap.png")


@app.default
def overlap_command(hub: Path, /, *tasks: str, plot: Path | None = None, json: Json = False) -> None:
    """Show, for each two tasks and each feature map, how far they take the same channels.

    The measure is intersection over union: 1 where two tasks take the same channels, 0 where none is taken by both. In
    brackets stands what it would be if both chose as many at random.

    Args:
        hub: its folder.
        tasks: two or more; by default all that choose channels.
        plot: picture with feature maps down and pairs of tasks across (.png, .svg or .pdf).
        json: print {"tasks", "pairs": [{"tasks", "taps": {TAP: {"both", "either", "iou", "chance"}}, "iou",
            "chance"}]}.
    """
    results = overlap(Hub.open(hub), tasks)
    if plot is not None:
        draw_overlap(results, f"channels that two tasks of {hub.name} take", plot)
        note(f"{plot} is drawn")
    if json:
        print_json(results)
        return
    pairs = results["pairs"]
    taps = dict.fromkeys(tap for pair in pairs for tap in pair["taps"])
    rows = [(tap, *(_cell(pair["taps"].get(tap)) for pair in pairs)) for tap in taps]
    print_table(
        ("tap", *(" × ".join(pair["tasks"]) for pair in pairs)), [*rows, ("mean", *(_cell(pair) for pair in pairs))]
    )


def _cell(entry: dict[str, float] | None) -> str:
    return "" if entry is None else f"{entry['iou']:.2f} ({entry['chance']:.2f})"
