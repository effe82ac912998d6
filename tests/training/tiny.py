"""A CNN, a method and a data set that train in seconds; also imported by the scripts that start processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from snow.data import Dataset, Pictures, Task
from snow.methods import Method
from snow.source import Features, Preprocessing, Source
from snow.training import Recipe, Runtime

SIZE = 32


def tiny_source() -> Source:
    """Two convolution blocks with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        cnn = nn.Sequential()
        cnn.block1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        cnn.block2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        cnn.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        cnn.head = nn.Linear(16, 10)
    return Source(cnn, "tests/tiny", "random", Preprocessing(image_size=SIZE, crop_pct=1.0), taps=["block1", "block2"])


class Noisy(Method):
    """Everything that makes a run hard to resume: dropout, noise of its own, BatchNorm, a counter, `set_progress`."""

    name: ClassVar[str] = "noisy"

    def __init__(self, num_classes: int, tap: str = "block2", channels: int = 16, noise: float = 0.1) -> None:
        super().__init__()
        self.num_classes, self.tap, self.channels, self.noise = num_classes, tap, channels, noise
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2 if noise else 0.0)
        )
        self.classifier = nn.Linear(8, num_classes)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.calibrations = 0
        self.progress: list[float] = []

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        return cls(num_classes, **(config or {}))

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls.build(source, num_classes, config)

    @property
    def config(self) -> dict[str, Any]:
        return {"tap": self.tap, "channels": self.channels, "noise": self.noise}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset({self.tap})

    def forward(self, features: Features) -> Tensor:
        x = features.maps[self.tap]
        if self.training:
            self.seen += 1
            x = x + self.noise * (1 - self.progress[-1]) * torch.randn_like(x)
        return self.classifier(self.body(x).mean((2, 3)))

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        self.calibrations += 1
        for features, labels in batches:
            assert features.maps[self.tap].dtype == torch.float32
            assert (labels >= 0).all()
            with torch.no_grad():
                self.classifier.bias += labels.bincount(minlength=self.num_classes) / 100

    def set_progress(self, fraction: float) -> None:
        self.progress.append(fraction)


class Blind(Method):
    """Looks at the picture and at nothing of the source."""

    name: ClassVar[str] = "blind"
    uses_source: ClassVar[bool] = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layer = nn.Linear(3, num_classes)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        return cls(num_classes)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls(num_classes)

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, features: Features) -> Tensor:
        return self.layer(features.images.mean((2, 3)))


def built(method: type[Method] = Noisy, num_classes: int = 3, seed: int = 0, **config: Any) -> Any:
    """A fresh method with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method.build(tiny_source(), num_classes, config or None)


def picture(index: int, label: int) -> Image.Image:
    """A class is a colour, with noise."""
    pixels = np.random.default_rng(index).integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
    pixels[..., label % 3] += 80
    return Image.fromarray(pixels)


def tiny_pictures(labels: Tensor, first: int = 0) -> Pictures:
    """A picture for each row of labels (n, T), coloured by its first label."""
    return Pictures([partial(picture, first + i, int(row[0])) for i, row in enumerate(labels)], labels)


def tiny_dataset(train: int = 24, test: int = 12, tasks: int = 1) -> Dataset:
    """Three classes by colour; with two tasks the second has the same labels, every fourth one missing."""
    parts = []
    for count in (train, test):
        labels = (torch.arange(count) % 3)[:, None].repeat(1, tasks)
        if tasks > 1:
            labels[::4, 1] = -1
        parts.append(labels)
    names = ("colour", "shade")[:tasks]
    return Dataset(
        tuple(Task(name, ("r", "g", "b")) for name in names),
        tiny_pictures(parts[0]),
        tiny_pictures(parts[1], first=1000),
    )


def tiny_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.01,
        "precision": "32",
        "augment": "flip",
    }
    return Recipe(**{**values, **changes})


def tiny_runtime(**changes: Any) -> Runtime:
    values: dict[str, Any] = {"workers": 0, "accelerator": "cpu"}
    return Runtime(**{**values, **changes})


def same_tensors(first: nn.Module, second: nn.Module) -> bool:
    """Bit by bit."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
