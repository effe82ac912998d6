"""`snow hub list` and `snow hub show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.cli.hub.place import app, resolve
from snow.cli.options import Json
from snow.cli.output import megabytes, note, percent, print_json, print_table
from snow.hub import listing
from snow.hub.task_files import files_of, read_config
from snow.source.description import read_source
from snow.store import read_json


@app.command(name="list")
def list_tasks(hub: Path, /, *, json: Json = False) -> None:
    """List the tasks of a hub. Damaged tasks are reported on stderr and left out.

    Args:
        hub: folder of the hub.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    entries = summaries(hub)
    if json:
        print_json(entries)
    else:
        print_tasks(entries)


@app.command
def show(where: Path, /, *, json: Json = False) -> None:
    """Show what a hub or a task records: source, classes, training and metrics.

    Args:
        where: HUB, HUB/TASK, or a folder with a task.
        json: print {"hub", "source", "tasks"}, or {"folder", "config", "metrics", "files": {NAME: bytes}}.
    """
    target = resolve(where)
    if target.hub and not target.task:
        _show_hub(target.hub, json)
        return
    task = target.read(_describe)
    if json:
        print_json({"folder": str(target.path), **task})
    else:
        _show_task(target.path, task)


def summaries(hub: Path) -> list[dict[str, Any]]:
    """Summarise the tasks of a hub; damaged ones get a line on stderr instead."""
    return listing.summaries(hub, lambda name, error: note(f"warning: task {name} is left out: {error}"))


def print_tasks(entries: Sequence[dict[str, Any]]) -> None:
    rows = [(*list(entry.values())[:3], megabytes(entry["artifact_bytes"]), _headline(entry)) for entry in entries]
    only_classes = all(entry["kind"] == "class" for entry in entries)
    print_table(("task", "method", "classes", "size", "top-1" if only_classes else "test"), rows)


def _headline(entry: Mapping[str, Any]) -> str:
    """Write the first figure that was measured: `91.2 %` of a class, else with its name: `mae 1.84 mm`."""
    return percent(entry["top1"]) if entry["kind"] == "class" else listing.headline(entry)


def _show_hub(hub: Path, json: bool) -> None:
    described, entries = read_source(hub), summaries(hub)
    if json:
        print_json({"hub": str(hub), "source": described, "tasks": entries})
        return
    rows = [("source", described["architecture"]), ("weights", described["weights"])]
    origin = described.get("origin")
    rows += [(key, value) for key, value in origin.items()] if isinstance(origin, dict) else []
    rows += [(key, value) for key, value in described["preprocessing"].items()]
    print_table(("hub", str(hub)), [*rows, ("fingerprint", described["fingerprint"])])
    print()
    print_tasks(entries)


def _describe(folder: Path) -> dict[str, Any]:
    return {
        "config": read_config(folder),
        "metrics": read_json(folder / "metrics.json"),
        "files": {file.name: file.stat().st_size for file in files_of(folder)},
    }


def _show_task(folder: Path, task: dict[str, Any]) -> None:
    config, metrics, files = task["config"], task["metrics"], task["files"]
    rows: list[tuple[str, object]] = [
        ("folder", folder),
        *_label_rows(config),
        ("method", config["method"]),
        ("source", f"{config['source'].get('architecture')} ({config['source'].get('weights')})"),
        ("source fingerprint", config["source"]["fingerprint"]),
    ]
    for part in ("recipe", "data"):
        values = config["training"].get(part)
        if isinstance(values, dict):
            rows.append((part, ", ".join(f"{key} {value}" for key, value in values.items() if key != "fingerprint")))
    rows += [(key, _plain(value)) for key, value in metrics.items() if key != "history"]
    rows += [(name, f"{size:,} bytes") for name, size in files.items()]
    print_table(("task", config["task"]), rows)


def _label_rows(config: dict[str, Any]) -> list[tuple[str, object]]:
    """Describe the labels: their names, and for other kinds than classes what else is known of them."""
    names = f"{len(config['classes'])}: {', '.join(config['classes'])}"
    labels = dict(config.get("labels", {}))
    kind = labels.pop("kind", "class")
    title = {"multi": "tags", "ordered": "grades"}.get(kind, "classes")
    rows: list[tuple[str, object]] = [] if kind == "class" else [("kind", kind)]
    rows += [(title, names)] if config["classes"] else []
    return rows + [(key, _listed(value)) for key, value in labels.items()]


def _listed(value: object) -> str:
    return ", ".join(f"{item:.3g}" for item in value) if isinstance(value, list) else str(value)


def _plain(value: object) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
