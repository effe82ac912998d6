"""`snow export`."""

from __future__ import annotations

from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Flag, Names
from snow.cli.output import note
from snow.hub import Hub
from snow.hub.export import export
from snow.inference.prediction import SOURCE_HEAD

app = command("export", "snow export my-hub my-hub.onnx")


@app.default
def export_command(hub: Path, file: Path, /, *, tasks: Names = (), source_head: Flag = False) -> None:
    """Write a hub as one file that needs nothing of this project: ONNX, or a program for torch.export.load.

    It takes `images`, uint8 of (B, 3, S, S) for any B, and gives the logits of each task under its name; how pictures
    are to be prepared and the names of the classes are in its metadata. It is checked against the hub.

    Args:
        hub: its folder.
        file: ends in .onnx or .pt2.
        tasks: which, with commas between; by default all that can answer.
        source_head: the source's own head, too.
    """
    opened = Hub.open(hub)
    broken = {} if tasks else opened.broken()
    for name, reason in broken.items():
        note(f"warning: task {name} is left out: {reason}")
    asked = list(dict.fromkeys(tasks)) or [name for name in opened.names() if name not in broken]
    asked += [SOURCE_HEAD] if source_head else []
    note(f"exporting {len(asked)} tasks, which takes a while …")
    export(opened, file, asked)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {', '.join(asked)}")
