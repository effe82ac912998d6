"""`snow pick`."""

from __future__ import annotations

from pathlib import Path

import torch

from snow.cli.app import command
from snow.cli.options import Json
from snow.cli.output import print_json, print_table
from snow.cli.predict import picture_batches
from snow.data.decode import shown
from snow.errors import SnowError
from snow.hub import Hub
from snow.process.devices import find_device
from snow.training.pick import doubts, pick

app = command("pick", "snow pick my-hub insects unlabelled/ --count 50")


@app.default
def pick_command(
    hub: Path, task: str, images: list[Path], /, *, count: int = 50, device: str = "cpu", json: Json = False
) -> None:
    """Pick the images whose labels would teach a task most: typical ones of each kind that it gets wrong.

    Images are grouped by what they show, each with the weight of its doubt. One of each group is picked. A task that is
    sure of nothing gets typical images of all kinds.

    Args:
        hub: folder of the hub.
        task: name of the task.
        images: images without labels, or folders with images in them.
        count: images to pick.
        device: cpu, cuda, cuda:1, mps or auto.
        json: print a list of {"image", "doubt"}, the first to label first. Doubt is the chance that the task is wrong,
            as it sees it; of tags, how close the least certain one is to its threshold.
    """
    if count < 1:
        raise SnowError(f"--count is at least 1, not {count}")
    target = find_device(device)
    opened = Hub.open(hub)
    opened.source.to(target)
    artifact = opened.task(task)
    paths, logits, final = [], [], []
    for batch, _ in picture_batches(images, opened):
        if batch:
            pixels = torch.stack([each for _, each in batch])
            paths += [path for path, _ in batch]
            with torch.no_grad():
                features = opened.source(pixels.to(target).contiguous(memory_format=torch.channels_last), frozenset())
            final.append(features.final.cpu())
            logits.append(opened.logits(pixels, [task])[task].cpu())
    if not paths:
        raise SnowError("there is no readable image to pick from")
    picked = pick(doubts(artifact, torch.cat(logits)), torch.cat(final), count)
    if json:
        print_json([{"image": str(paths[entry.index]), "doubt": round(entry.doubt, 6)} for entry in picked])
    else:
        print_table(("image", "doubt"), [(shown(paths[entry.index]), f"{entry.doubt:.3f}") for entry in picked])
