"""`snow hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.artifact import read_config, read_json
from snow.cli.app import command
from snow.cli.options import Json
from snow.cli.output import megabytes, percent, print_json, print_table
from snow.hub import store_of
from snow.source_file import read_source

app = command("hub", "snow hub list my-hub")


@app.command(name="list")
def list_tasks(hub: Path, /, *, json: Json = False) -> None:
    """The tasks of a hub.

    Args:
        hub: its folder.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    read_source(hub)
    entries: list[dict[str, Any]] = []
    for name in store_of(hub).names():
        config, metrics = read_config(hub / "tasks" / name), read_json(hub / "tasks" / name / "metrics.json")
        entries.append(
            {
                "task": name,
                "method": config["method"],
                "classes": len(config["classes"]),
                "artifact_bytes": (hub / "tasks" / name / "model.safetensors").stat().st_size,
                "top1": metrics.get("test", {}).get("top1"),
            }
        )
    if json:
        print_json(entries)
        return
    print_table(
        ("task", "method", "classes", "size", "top-1"),
        [(*list(e.values())[:3], megabytes(e["artifact_bytes"]), percent(e["top1"])) for e in entries],
    )
