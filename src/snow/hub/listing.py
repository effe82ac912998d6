"""What is in a hub, read from its files without importing torch or building a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snow.errors import MismatchError, SnowError
from snow.hub.task_files import CONFIG_FILE, METRICS_FILE, MODEL_FILE, read_config
from snow.hub.task_record import require_unchanged
from snow.hub.tensor_file import read_header
from snow.source.description import read_source
from snow.store import Store, read_json

ERRORS = ("mae", "rmse")
"""Figures that are in the unit of the labels."""


def store_of(path: Path) -> Store:
    """Open the tasks of the hub at `path` as folders."""
    return Store(path / "tasks", path / ".lock")


def unknown_task(path: Path, name: str) -> str:
    """Return the error message for a task that the hub at `path` does not have."""
    return f"hub {path} has no task {name!r}: it has {', '.join(store_of(path).names()) or 'none yet'}"


def summaries(path: Path, on_broken: Callable[[str, SnowError], None]) -> list[dict[str, Any]]:
    """Summarise the tasks of the hub at `path`, see `read_summary`.

    Args:
        on_broken: is called for each task that is left out, with its name and the reason.

    Raises:
        SnowError: there is no hub.
    """
    fingerprint, store, entries = read_source(path)["fingerprint"], store_of(path), []
    for name in store.names():
        try:
            entries.append(store.read(name, lambda folder, name=name: read_summary(folder, name, fingerprint)))
        except SnowError as error:
            on_broken(name, error)
    return entries


def read_summary(folder: Path, name: str, fingerprint: str) -> dict[str, Any]:
    """Summarise the task `name` from its files, without building its network.

    Args:
        fingerprint: of the source that it must have been trained on.

    Raises:
        SnowError: the task is damaged, of another source or of a newer format.
    """
    config, metrics = read_config(folder), read_json(folder / METRICS_FILE)
    if config["source"]["fingerprint"] != fingerprint:
        raise MismatchError(
            f"it was trained on another source: its fingerprint is {config['source']['fingerprint']}, that of the hub "
            f"{fingerprint}"
        )
    require_unchanged(folder, [CONFIG_FILE, METRICS_FILE])
    read_header(folder / MODEL_FILE)
    return {
        "task": name,
        "method": config["method"],
        "classes": len(config["classes"]),
        "artifact_bytes": (folder / MODEL_FILE).stat().st_size,
        "top1": top1(metrics),
        "kind": kind_name(config),
        "figures": figures(metrics),
        **({"unit": unit} if (unit := unit_of(config)) else {}),
    }


def kind_name(config: Mapping[str, Any]) -> str:
    """Return the kind of a task's labels from its `config.json`."""
    return str(config.get("labels", {}).get("kind", "class"))


def unit_of(config: Mapping[str, Any]) -> str:
    """Return the unit of a task's numbers from its `config.json`; "" where there is none."""
    labels = config.get("labels")
    unit = labels.get("unit", "") if isinstance(labels, Mapping) else ""
    return unit if isinstance(unit, str) else ""


def headline(entry: Mapping[str, Any]) -> str:
    """Write the first figure of a summary; "" where none was measured."""
    return next((figure_text(key, value, entry.get("unit", "")) for key, value in entry["figures"].items()), "")


def figure_text(key: str, value: float, unit: str) -> str:
    """Write a figure with its name, and with the unit of the labels if it is an error in these: `mae 1.84 mm`."""
    return f"{key} {value:.3g} {unit if key in ERRORS else ''}".strip()


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured on the test pictures, the most important figure first."""
    test = metrics.get("test")
    values = test if isinstance(test, dict) else {}
    return {
        key: float(value)
        for key, value in values.items()
        if key != "images" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def top1(metrics: dict[str, Any]) -> float | None:
    """Return the accuracy on the test pictures, in 0..1; None if `metrics.json` holds no such number."""
    test = metrics.get("test")
    value = test.get("top1") if isinstance(test, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None
