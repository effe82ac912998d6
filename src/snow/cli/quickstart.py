"""`snow quickstart`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from snow.cli.app import command
from snow.cli.options import Json
from snow.cli.output import megabytes, note, percent, print_json, print_table
from snow.experiments.quickstart import Quickstart, quickstart
from snow.hub import Artifact
from snow.inference import Failure, encode
from snow.process.interrupt import Interrupted
from snow.training.listeners import ProgressBar

app = command("quickstart", "snow quickstart --folder first-try")


@app.default
def quickstart_command(*, folder: Path = Path("snow-quickstart"), json: Json = False) -> None:
    """Train two small tasks on pictures that come with the installation, beside a linear probe, and ask them.

    Args:
        folder: for the pictures and the hub. What is in it already is used, not trained again.
        json: print {"hub", "pictures", "trained", "seconds", "tasks", "picture", "answers", "next"}.
    """
    try:
        seen = quickstart(folder, listeners=(ProgressBar(),), tell=note)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped} (the same command goes on)", stopped.signal) from None
    entries = [_entry(seen.hub.task(name)) for name in seen.answers]
    following = f"snow predict {shlex.quote(str(seen.hub.path))} {shlex.quote(str(seen.picture))} --source-head"
    if json:
        print_json(
            {
                "hub": str(seen.hub.path),
                "pictures": str(folder / "pictures"),
                "trained": list(seen.trained),
                "seconds": round(seen.seconds, 1),
                "tasks": entries,
                "picture": str(seen.picture),
                "answers": encode(str(seen.picture), seen.answers)["tasks"],
                "next": following,
            }
        )
    else:
        _show(folder, seen, entries, following)


def _entry(artifact: Artifact) -> dict[str, Any]:
    metrics = artifact.metrics
    return {
        "task": artifact.name,
        "classes": len(artifact.classes),
        "top1": metrics["test"]["top1"],
        "linear_probe": metrics["linear_probe"]["top1"],
        "learned_parameters": metrics["learned_parameters"],
        "artifact_bytes": metrics["artifact_bytes"],
        "seconds": metrics["seconds"],
    }


def _show(folder: Path, seen: Quickstart, entries: list[dict[str, Any]], following: str) -> None:
    source = seen.hub.source
    print_table(
        ("task", "classes", "SNOW", "linear probe", "parameters", "size", "training"),
        [
            (
                entry["task"],
                entry["classes"],
                percent(entry["top1"]),
                percent(entry["linear_probe"]),
                f"{entry['learned_parameters']:,}",
                megabytes(entry["artifact_bytes"]),
                f"{entry['seconds']:.0f} s",
            )
            for entry in entries
        ],
    )
    print(f"\nThey share one frozen source, {source.name}, of {source.learned_parameters:,} parameters.")
    print(f"One pass of it answers all of them about {seen.picture}:")
    for name, answer in seen.answers.items():
        if isinstance(answer, Failure):
            print(f"  {name}: {answer.error}")
            continue
        [(label, probability)] = answer.top(1)
        print(f"  {name}: {label} ({percent(probability)})")
    if seen.trained:
        print(f"\nAll this took {seen.seconds:.0f} s. ", end="")
    else:
        print("\nThe tasks were there already: remove the folder to train them again. ", end="")
    print(f"The tasks are in {seen.hub.path / 'tasks'}, the pictures in {folder / 'pictures'}.")
    print(f"Next: {following}")
