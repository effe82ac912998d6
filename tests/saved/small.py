"""What the saved data rests on: small CNNs that timm knows by name, and pictures drawn by whole numbers alone."""

from __future__ import annotations

import json
import tarfile
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models import register_model
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from snow import Dataset, Hub, Pictures, Task
from snow.cli import main

HERE = Path(__file__).parent
HUBS = ("basic", "bottleneck", "embedded", "plain")
SIZE = 16
CLASSES = ("blue", "green", "red")

RECIPE: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 0.02, "workers": 0, "precision": "32", "augment": "none"}
QUICK = [f"--{name.replace('_', '-')}={value}" for name, value in RECIPE.items()]
"""The same for a command."""

STOPPED: dict[str, Any] = {"finest": 4, "keep": 0.5}
"""Options of the task of hub `plain` whose training was stopped."""


class Net(nn.Module):
    """A stem to half of the resolution, some blocks, a linear head."""

    def __init__(self, blocks: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@register_model
def saved_plain(pretrained: bool = False, num_classes: int = 4, **_: object) -> nn.Module:
    """Convolutions in a chain."""
    layers = [(nn.Conv2d(4, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for width in (4, 6)]
    return Net([nn.Sequential(*each) for each in layers], 6, num_classes)


@register_model
def saved_basic(pretrained: bool = False, num_classes: int = 4, **_: object) -> nn.Module:
    """Basic blocks."""
    return Net([BasicBlock(4, 4, 2, _shortcut(4, 4)), BasicBlock(4, 4, 2, _shortcut(4, 4))], 4, num_classes)


@register_model
def saved_bottleneck(pretrained: bool = False, num_classes: int = 4, **_: object) -> nn.Module:
    """Bottlenecks."""
    return Net([Bottleneck(4, 2, 2, _shortcut(4, 8)), Bottleneck(8, 2, 2, _shortcut(8, 8))], 8, num_classes)


def _shortcut(entering: int, leaving: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(entering, leaving, 1, 2, bias=False), nn.BatchNorm2d(leaving))


def pixels(number: int, size: int) -> np.ndarray:
    """(size, size, 3), uint8."""
    count = np.arange(size * size * 3, dtype=np.int64) + 1000 * number
    return (count * (2 * number + 7) * 37 // 5 % 256).astype(np.uint8).reshape(size, size, 3)


def pictures(size: int) -> Tensor:
    """(2, 3, size, size), uint8: what the saved tasks were asked about."""
    return torch.stack([torch.from_numpy(pixels(number, size)).permute(2, 0, 1) for number in (1, 2)])


def coloured(number: int, label: int, size: int = SIZE) -> Image.Image:
    """What a task learned: a class is a colour."""
    drawn = pixels(number, size) // 2
    drawn[..., label] += 100
    return Image.fromarray(drawn)


def colours(task: str, size: int = SIZE) -> Dataset:
    """Three classes, 12 pictures to learn from and 6 to test on."""
    parts = [
        Pictures([partial(coloured, first + one, one % 3, size) for one in range(count)], torch.arange(count) % 3)
        for first, count in ((0, 12), (100, 6))
    ]
    return Dataset((Task(task, CLASSES),), *parts)


def write_colours(folder: Path) -> Path:
    """The same pictures as an image folder."""
    for part, first, count in (("train", 0, 12), ("test", 100, 6)):
        for one in range(count):
            path = folder / part / CLASSES[one % 3] / f"{one}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coloured(first + one, one % 3).save(path)
    return folder


def choices(folder: Path) -> dict[str, Any]:
    """What `snow choice` tells of every task of the hubs in `folder` that has chosen, by HUB/TASK."""
    found = {}
    for path in sorted(folder.glob("*/tasks/*/choice.safetensors")):
        hub, task = path.parents[2], path.parent.name
        with redirect_stdout(StringIO()) as told:
            assert main(["choice", str(hub), task, "--json"]) == 0
        found[f"{hub.name}/{task}"] = json.loads(told.getvalue())
    return found


def unpack(name: str, folder: Path) -> Path:
    """A saved hub, as `folder/name`. One archive keeps each: most of its bytes are JSON."""
    with tarfile.open(HERE / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def answers(folder: Path) -> dict[str, Tensor]:
    """The logits of every task of the hubs in `folder` to `pictures`, by HUB/TASK."""
    found = {}
    for name in HUBS:
        hub = Hub.open(folder / name)
        logits = hub.logits(pictures(hub.source.preprocessing.image_size))
        found.update({f"{name}/{task}": value.contiguous() for task, value in logits.items()})
    return found


SOURCE = [f"--image-size={SIZE}", "--source=saved_plain"]
WEIGHTS = [*SOURCE, "--weights=plain/source.safetensors"]
COMMANDS: dict[str, list[str]] = {
    "compare": ["compare", "colours", "--methods=fo,snow", "--rates=0.01,0.02"]
    + ["--out=results/compare.json", *WEIGHTS, *QUICK],
    "lifelong": ["lifelong", "colours", "dtd10", "--methods=lf,snow", "--out=results/lifelong.json", *WEIGHTS, *QUICK],
    "sweep": ["sweep", "colours", "--over=keep=1/2,1/4", "--search=1", "--out=results/sweep.json", *WEIGHTS, *QUICK],
    "table5": ["reproduce", "table5", "--no-speeds", "--methods=fo,ft,snow:preset=paper"]
    + ["--out=results/reproduction", *SOURCE, *QUICK],
    "table7": ["reproduce", "table7", "--data=.", "--sets=dtd10-own-split", "--rates=0.02"]
    + ["--methods=fo,snow:preset=paper", "--out=results/reproduction", *WEIGHTS, *QUICK],
}
"""Those that wrote `results`: in a folder with the hub `plain` and the pictures `colours` and `dtd10`."""
