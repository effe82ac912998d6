"""`snow hub log` and `snow hub rollback`."""

from __future__ import annotations

from pathlib import Path

from snow.cli.hub.place import app, require
from snow.cli.options import Json
from snow.cli.output import megabytes, note, print_json, print_table
from snow.hub.listing import headline
from snow.hub.versions import find_version, history_of


@app.command(name="log")
def log(hub: Path, task: str, /, *, json: Json = False) -> None:
    """List the versions of a task that are kept: what it was before it was replaced or extended.

    Args:
        hub: folder of the hub.
        task: name of the task.
        json: print a list of {"version", "written", "method", "kind", "classes", "figures", "change", "bytes"}, the
            present version, whose number is null, first.
    """
    require(hub, task)
    entries = history_of(hub, task)
    if json:
        print_json(entries)
        return
    rows = []
    for entry in entries:
        number = "now" if entry["version"] is None else entry["version"]
        if "error" in entry:
            rows.append((number, "", "", "", "", entry["error"]))
            continue
        rows.append(
            (number, entry["written"], entry["classes"], headline(entry), megabytes(entry["bytes"]), entry["change"])
        )
    print_table(("version", "written", "classes", "test", "size", "change"), rows)


@app.command
def rollback(hub: Path, task: str, /, *, to: int | None = None) -> None:
    """Put an earlier version of a task back, in one step. The present one is kept as a version.

    Args:
        hub: folder of the hub.
        task: name of the task.
        to: number of the version, as `snow hub log` shows it; by default the last.
    """
    from snow.hub import Hub  # imports torch, which takes seconds

    require(hub, task)
    folder = find_version(hub, task, to)
    Hub.open(hub).copy(folder, task, replace=True)
    note(f"task {task} is version {int(folder.name)} again")
