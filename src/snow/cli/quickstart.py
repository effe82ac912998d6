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

REJECT = 0.05
"""Share of a task's own images that may be answered as unknown."""

app = command("quickstart", "snow quickstart --folder first-try")


@app.default
def quickstart_command(*, folder: Path = Path("snow-quickstart"), json: Json = False) -> None:
    """Train two small tasks, and a linear probe for comparison, on images that come with the installation.

    Args:
        folder: for the images and the hub. Tasks that it already holds are not trained again.
        json: print {"hub", "pictures", "trained", "seconds", "tasks", "picture", "answers", "next"}.
    """
    try:
        result = quickstart(folder, listeners=(ProgressBar(),), log=note)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped} (run the same command to continue)", stopped.signal) from None
    entries = [_entry(result.hub.task(name)) for name in result.answers]
    next_command = f"snow predict {shlex.quote(str(result.hub.path))} {shlex.quote(str(result.picture))} --source-head"
    if json:
        print_json(
            {
                "hub": str(result.hub.path),
                "pictures": str(folder / "pictures"),
                "trained": list(result.trained),
                "seconds": round(result.seconds, 1),
                "tasks": entries,
                "picture": str(result.picture),
                "answers": encode(str(result.picture), result.answers, reject=REJECT)["tasks"],
                "next": next_command,
            }
        )
    else:
        _print(folder, result, entries, next_command)


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


def _print(folder: Path, result: Quickstart, entries: list[dict[str, Any]], next_command: str) -> None:
    source = result.hub.source
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
    print(f"\nBoth share one frozen source, {source.name}, with {source.learned_parameters:,} parameters.")
    print(f"One source pass gives the predictions of both for {result.picture}:")
    for name, answer in result.answers.items():
        if isinstance(answer, Failure):
            print(f"  {name}: {answer.error}")
            continue
        [(label, probability)] = answer.top(1)
        if answer.known is not None and answer.known < REJECT:
            print(f"  {name}: unknown, unlike all its images (closest: {label})")
            continue
        print(f"  {name}: {label} ({percent(probability)})")
    if result.trained:
        print(f"\nThis took {result.seconds:.0f} s. ", end="")
    else:
        print("\nThe tasks were trained before: remove the folder to train them again. ", end="")
    print(f"The tasks are in {result.hub.path / 'tasks'}, the images in {folder / 'pictures'}.")
    print(f"Next: {next_command}")
