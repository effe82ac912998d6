"""`snow export`."""

from __future__ import annotations

from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Flag, Names
from snow.cli.output import note
from snow.errors import SnowError
from snow.hub import Hub
from snow.hub.export import export
from snow.inference import SOURCE_HEAD
from snow.process.devices import find_device

app = command("export", "snow export my-hub my-hub.onnx")


@app.default
def export_command(
    hub: Path, file: Path, /, *, tasks: Names = (), source_head: Flag = False, device: str = "cpu"
) -> None:
    """Write a hub as one file that runs without this package: ONNX, or a program for torch.export.load.

    The file takes `images`, (B, 3, S, S) uint8 for any B, and returns the logits of each task under its name. Its
    metadata holds the preprocessing and the names of the classes. Its logits are compared with those of the hub.

    Args:
        hub: the hub's folder.
        file: the file to write; ends in .onnx or .pt2.
        tasks: comma-separated names; by default all tasks that can answer.
        source_head: export the source's own head too.
        device: where a .pt2 file computes: cpu, cuda, cuda:1 or mps. ONNX Runtime chooses when it loads a file.
    """
    target = find_device(device)
    if file.suffix == ".onnx" and target.type != "cpu":
        raise SnowError("an ONNX file runs on any device: omit --device, and choose a provider when you load it")
    opened = Hub.open(hub)
    opened.source.to(target)
    broken = {} if tasks else opened.broken()
    for name, reason in broken.items():
        note(f"warning: task {name} is left out: {reason}")
    names = list(dict.fromkeys(tasks)) or [name for name in opened.names() if name not in broken]
    names += [SOURCE_HEAD] if source_head else []
    note(f"exporting {len(names)} tasks, which takes a while …")
    export(opened, file, names)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {', '.join(names)}")
