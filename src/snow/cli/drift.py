"""`snow drift`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from snow.cli.app import command
from snow.cli.options import Json, Names
from snow.cli.output import note, percent, print_json, print_table
from snow.cli.predict import picture_batches
from snow.errors import NotFoundError
from snow.hub import Hub
from snow.inference import Failure
from snow.inference.drift import Drift, familiarity_of
from snow.inference.reference import Traits
from snow.process.devices import find_device

CHANGED = 1
"""Exit code if the pictures differ from those of a task."""

app = command("drift", "snow drift my-hub todays-pictures/")


@app.default
def drift_command(
    hub: Path, images: list[Path], /, *, tasks: Names = (), device: str = "cpu", json: Json = False
) -> int:
    """Compare images with those that each task was trained on. Exit code 1 if they differ for a task.

    Compared are how familiar the images are to a task, what they show, and their light, contrast, tint and sharpness.
    Blur, other light, another camera or other objects change one of these; another sample of the same images does
    not, nor does one with more images of some classes.

    Args:
        hub: folder of the hub.
        images: images, or folders with images in them; some dozens at least.
        tasks: names separated by commas; by default all tasks that keep statistics of their training images.
        device: cpu, cuda, cuda:1, mps or auto.
        json: print {"tasks": {NAME: {"images", "distance", "median", "unfamiliar", "content", "appearance",
            "has_changed"}}}: the distance of the distributions, 0..1; the median familiarity, 0.5 for own images;
            the share of images that are less familiar than 95 % of the own; and how much more than by chance content
            and appearance differ in the mean, 0..1, or null for tasks of early versions.
    """
    target = find_device(device)
    opened = Hub.open(hub)
    opened.source.to(target)
    opened.tasks.require(*tasks)
    known: dict[str, list[float]] = {}
    traits: dict[str, list[Traits]] = {}
    for batch, _ in picture_batches(images, opened):
        if batch:
            requests = opened.tasks.requests(tasks or opened.names(), required=bool(tasks))
            pixels = torch.stack([each for _, each in batch])
            for row in opened.predictor.run(pixels, [requests] * len(batch), with_traits=True):
                for name, entry in row.items():
                    if not isinstance(entry, Failure) and (familiar := familiarity_of(entry)) is not None:
                        known.setdefault(name, []).append(familiar)
                        traits.setdefault(name, []).extend([entry.traits] if isinstance(entry.traits, Traits) else [])
    for name in set(tasks) - set(known):
        note(f"warning: task {name} keeps no statistics of its training images: train it again")
    if not known:
        raise NotFoundError(f"no task of hub {hub} can compare these images: there is none, or they keep no statistics")
    drifts = {name: Drift.of(values, traits[name]) for name, values in known.items()}
    if json:
        print_json({"tasks": {name: asdict(drift) for name, drift in drifts.items()}})
    else:
        _print(drifts)
    return CHANGED if any(drift.has_changed for drift in drifts.values()) else 0


def _print(drifts: Mapping[str, Drift]) -> None:
    rows = [
        (
            name,
            drift.images,
            f"{drift.distance:.2f}",
            f"{drift.median:.2f}",
            percent(drift.unfamiliar),
            *("" if value is None else f"{value:.2f}" for value in (drift.content, drift.appearance)),
            "changed" if drift.has_changed else "as in training",
        )
        for name, drift in drifts.items()
    ]
    print_table(("task", "images", "distance", "median familiarity", "unfamiliar", "content", "appearance", ""), rows)
