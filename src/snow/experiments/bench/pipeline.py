"""The data pipeline of training, timed: image files, decoded and augmented by loading workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from snow.data import Pictures, train_transform
from snow.data.pictures import load
from snow.experiments.step_cost import WARM_UP, BenchSetup
from snow.training.loader import DeviceLoader, EpochSampler

WIDTH, HEIGHT = 500, 375
"""Size of the generated images, and of most of ImageNet."""

TIMED_IMAGES = 32
"""Images that are decoded and augmented one by one to time both."""


def write_pictures(folder: Path, count: int, classes: int, seed: int = 0) -> None:
    """Write JPEG files `folder/CLASS/N.jpg`: noise at two scales, about as costly to decode as photographs."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        cloud = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(cloud.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-20, 21, (HEIGHT, WIDTH, 1), dtype=np.int16)
        class_folder = folder / f"class-{number % classes:04}"
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(class_folder / f"{number}.jpg", quality=88)


class Pipeline:
    """Endless batches, loaded as `snow train` loads them: (B, 3, S, S) uint8 and (B,) labels.

    Args:
        pictures: image files without a transform.
    """

    def __init__(self, setup: BenchSetup, pictures: Pictures) -> None:
        self._setup, recipe = setup, setup.recipe
        self.transform = train_transform(setup.source.preprocessing, recipe.augment)
        self._sampler = EpochSampler(len(pictures), recipe.batch_size, recipe.seed)
        self._workers = setup.conditions.runtime.loading_workers()
        self._pictures = pictures
        self._loader = DeviceLoader(pictures.with_transform(self.transform), self._sampler, self._workers, setup.device)

    def images_per_second(self, step: Callable[[Tensor, Tensor], object]) -> float:
        """Time `step(images, labels)` over more batches than the workers load ahead."""
        batches = self._batches()
        for _ in range(WARM_UP):
            step(*next(batches))
        self._setup.synchronize()
        started, images = time.perf_counter(), 0
        for _ in range(max(self._setup.conditions.steps, 4 * self._workers)):
            batch, labels = next(batches)
            step(batch, labels)
            images += len(batch)
        self._setup.synchronize()
        return images / (time.perf_counter() - started)

    def phases(self) -> dict[str, float]:
        """Time decoding and augmentation in one process, in seconds per image."""
        items = self._pictures.items[:TIMED_IMAGES]
        decoded: list[Tensor] = []
        seconds = {
            "decode": self._setup.seconds(lambda: decoded.extend(load(item) for item in items)),
            "augment": self._setup.seconds(lambda: [self.transform(pixels) for pixels in decoded]),
        }
        return {name: total / len(items) for name, total in seconds.items()}

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            self._sampler.start(epoch)
            yield from self._loader
            epoch += 1
