"""`snow hub verify` and `snow hub diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from snow.cli.hub.place import DIFFERENT, app, place
from snow.cli.options import Json
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError
from snow.hub import Hub
from snow.hub.diff import Change, diff_hubs, diff_tasks
from snow.hub.task_record import TOLERANCE, Verification

SHOWN = 10
"""Lines for each file; JSON has all."""

WIDTH = 20
"""Letters of a value; JSON has all."""


@app.command
def verify(where: Path, /, *, tolerance: float = TOLERANCE, json: Json = False) -> int:
    """Whether the source and each task are what they were when they were added; exit code 1 if not.

    Compares digests of all files and tensors, and asks each task about a few drawn pictures again.

    Args:
        where: HUB or HUB/TASK.
        tolerance: how far logits may be off, beside the largest of them; on one machine they are the same to the bit.
        json: print {"hub", "tasks": {NAME: {"state", "logits", "differences": [{"why", "file", "tensor"}]}}}; the
            state is "same", "changed" or "unrecorded", for a task that an earlier version has added; "logits" is their
            largest difference.
    """
    found = place(where)
    if found.hub is None:
        raise SnowError(f"{where} is in no hub: a task is verified with its source, as HUB/TASK")
    verifications = Hub.open(found.hub).verify([found.task] if found.task else None, tolerance)
    if json:
        tasks = {name: _entry(verification) for name, verification in verifications.items()}
        print_json({"hub": str(found.hub), "tasks": tasks})
    else:
        _print_verifications(verifications)
    for name, verification in verifications.items():
        if not verification.recorded and not verification.differences:
            note(f"warning: task {name} has no record to compare with: snow hub replace {found.hub} {found.hub}/{name}")
    return DIFFERENT if any(verification.differences for verification in verifications.values()) else 0


@app.command
def diff(here: Path, there: Path, /, *, json: Json = False) -> int:
    """In what two hubs, or two tasks, differ: which tasks are in one alone, and what differs in the others.

    Exit code 1 if anything does. Looks at the files alone: tasks of different sources can be compared.

    Args:
        here: HUB, HUB/TASK, or a folder with a task.
        there: likewise.
        json: print {"source", "only_here", "only_there", "same", "differ": {NAME: [{"file", "key", "here", "there",
            "largest"}]}} for two hubs, or the list alone for two tasks.
    """
    one, other = place(here), place(there)
    whole = [found.hub is not None and found.task is None for found in (one, other)]
    if whole[0] != whole[1]:
        raise SnowError(f"{here if whole[0] else there} is a hub and the other is a task: name the task as HUB/TASK")
    if not whole[0]:
        changes = diff_tasks(one.path, other.path)
        if json:
            print_json([asdict(change) for change in changes])
        else:
            _print_changes("", changes)
        return DIFFERENT if changes else 0
    found = diff_hubs(one.path, other.path)
    if json:
        print_json(asdict(found))
        return DIFFERENT if found else 0
    _print_changes("", found.source)
    for label, names in (("only here", found.only_here), ("only there", found.only_there), ("same", found.same)):
        if names:
            print(f"{label}: {', '.join(names)}")
    for name, changes in found.differ.items():
        _print_changes(f"{name}/", changes)
    return DIFFERENT if found else 0


def _state(verification: Verification) -> str:
    return "changed" if verification.differences else "same" if verification.recorded else "unrecorded"


def _entry(verification: Verification) -> dict[str, object]:
    differences = [asdict(difference) for difference in verification.differences]
    return {"state": _state(verification), "logits": verification.logits, "differences": differences}


def _print_verifications(verifications: dict[str, Verification]) -> None:
    rows = []
    for name, verification in verifications.items():
        logits = "" if verification.logits is None else f"{verification.logits:.3g}"
        reasons = [difference.why for difference in verification.differences]
        more = [f"… and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
        first, *others = [*reasons[:SHOWN], *more] or [""]
        rows.append((name, _state(verification), logits, first))
        rows += [("", "", "", why) for why in others]
    print_table(("task", "state", "logits off by", "what differs"), rows)


def _print_changes(title: str, changes: Sequence[Change]) -> None:
    for file in dict.fromkeys(change.file for change in changes):
        of_file = [change for change in changes if change.file == file]
        rows = [(change.key, *map(_short, (change.here, change.there)), _number(change)) for change in of_file[:SHOWN]]
        if len(of_file) > SHOWN:
            rows.append((f"… and {len(of_file) - SHOWN} more", "", "", ""))
        print_table((f"{title}{file}", "here", "there", "largest"), rows)


def _number(change: Change) -> str:
    return "" if change.largest is None else f"{change.largest:.3g}"


def _short(value: str) -> str:
    return value if len(value) <= WIDTH else f"{value[: WIDTH - 1]}…"
