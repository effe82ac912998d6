"""`snow hub verify` and `snow hub diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from snow.cli.hub.place import DIFFERENT, app, resolve
from snow.cli.options import Json
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError, printable
from snow.hub.task_record import TOLERANCE

if TYPE_CHECKING:
    from snow.hub.diff import Change
    from snow.hub.verification import Verification

MAX_LINES = 10
"""Most lines per file or task; JSON has all."""

WIDTH = 20
"""Most characters of a value; JSON has all."""


@app.command
def verify(where: Path, /, *, tolerance: float = TOLERANCE, json: Json = False) -> int:
    """Check that the source and the tasks of a hub are unchanged since they were added. Exit code 1 if not.

    Compares the digests of all files and tensors, and the logits of each task on a few test patterns.

    Args:
        where: HUB or HUB/TASK.
        tolerance: allowed difference of logits, relative to the largest; on the same machine they are bit-identical.
        json: print {"hub", "tasks": {NAME: {"state", "logits", "differences": [{"why", "file", "tensor"}]}}}. The
            state is "same", "changed", or "unrecorded" for a task added by an early version; "logits" is the largest
            difference of logits.
    """
    from snow.hub import Hub  # imports torch, which takes seconds

    target = resolve(where)
    if target.hub is None:
        raise SnowError(f"{where} is not in a hub: verifying a task needs its source, so give HUB/TASK")
    verifications = Hub.open(target.hub).verify([target.task] if target.task else None, tolerance)
    if json:
        tasks = {name: _entry(verification) for name, verification in verifications.items()}
        print_json({"hub": str(target.hub), "tasks": tasks})
    else:
        _print_verifications(verifications)
    for name, verification in verifications.items():
        if not verification.recorded and not verification.differences:
            note(f"warning: task {name} has no record; create one: snow hub replace {target.hub} {target.hub}/{name}")
    return DIFFERENT if any(verification.differences for verification in verifications.values()) else 0


@app.command
def diff(here: Path, there: Path, /, *, json: Json = False) -> int:
    """Compare two hubs or two tasks: tasks that only one hub has, and all values and tensors that differ.

    Exit code 1 if there is a difference. Only files are compared, so the tasks may have different sources.

    Args:
        here: HUB, HUB/TASK, or a folder with a task.
        there: the same for the other side.
        json: print {"source", "only_here", "only_there", "same", "differ": {NAME: [{"file", "key", "here", "there",
            "largest"}]}} for two hubs, or the list alone for two tasks.
    """
    from snow.hub.diff import diff_hubs, diff_tasks  # imports torch, which takes seconds

    first, second = resolve(here), resolve(there)
    is_hub = [target.hub is not None and target.task is None for target in (first, second)]
    if is_hub[0] != is_hub[1]:
        raise SnowError(f"{here if is_hub[0] else there} is a hub and the other is a task: name the task as HUB/TASK")
    if not is_hub[0]:
        changes = diff_tasks(first.path, second.path)
        if json:
            print_json([asdict(change) for change in changes])
        else:
            _print_changes("", changes)
        return DIFFERENT if changes else 0
    difference = diff_hubs(first.path, second.path)
    if json:
        print_json(asdict(difference))
        return DIFFERENT if difference else 0
    _print_changes("", difference.source)
    for label, names in (
        ("only here", difference.only_here),
        ("only there", difference.only_there),
        ("same", difference.same),
    ):
        if names:
            print(printable(f"{label}: {', '.join(names)}"))
    for name, changes in difference.differ.items():
        _print_changes(f"{name}/", changes)
    return DIFFERENT if difference else 0


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
        more = [f"… and {len(reasons) - MAX_LINES} more"] if len(reasons) > MAX_LINES else []
        first, *others = [*reasons[:MAX_LINES], *more] or [""]
        rows.append((name, _state(verification), logits, first))
        rows += [("", "", "", why) for why in others]
    print_table(("task", "state", "max logit error", "differences"), rows)


def _print_changes(title: str, changes: Sequence[Change]) -> None:
    for file in dict.fromkeys(change.file for change in changes):
        of_file = [change for change in changes if change.file == file]
        rows = [
            (change.key, *map(_short, (change.here, change.there)), _number(change)) for change in of_file[:MAX_LINES]
        ]
        if len(of_file) > MAX_LINES:
            rows.append((f"… and {len(of_file) - MAX_LINES} more", "", "", ""))
        print_table((f"{title}{file}", "here", "there", "largest"), rows)


def _number(change: Change) -> str:
    return "" if change.largest is None else f"{change.largest:.3g}"


def _short(value: str) -> str:
    return value if len(value) <= WIDTH else f"{value[: WIDTH - 1]}…"
