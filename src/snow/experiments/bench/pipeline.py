"""The real data pipeline: picture files, decoded and augmented by loading processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from snow.data import Pictures, train_transform
from snow.data.pictures import load
from snow.experiments.bench.setup import WARM_UP, BenchSetup
from snow.training.loader import DeviceLoader, EpochSampler

WIDTH, HEIGHT = 500, 375
"""Of generated pictures: the size of most of ImageNet."""

DECODED = 32
"""Pictures that are decoded and augmented one by one to time either."""


def write_pictures(folder: Path, count: int, classes: int, seed: int = 0) -> None:
    """Writes JPEG files `folder/CLASS/N.jpg`: clouds with a fine grain, about as hard to decode as photographs."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        cloud = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(cloud.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-20, 21, (HEIGHT, WIDTH, 1), dtype=np.int16)
        place = folder / f"class-{number % classes:04}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=88)


class Pipeline:
    """Endless batches as `snow train` loads them, of one label each.

    Args:
        pictures: without a transform.
    """

    def __init__(self, stand: BenchSetup, pictures: Pictures) -> None:
        self._stand, recipe = stand, stand.recipe
        self.transform = train_transform(stand.source.preprocessing, recipe.augment)
        self._order = EpochSampler(len(pictures), recipe.batch_size, recipe.seed)
        self._workers = stand.conditions.runtime.loading_workers()
        self._pictures = pictures
        self._loading = DeviceLoader(pictures.with_transform(self.transform), self._order, self._workers, stand.device)

    def images_per_second(self, step: Callable[[Tensor, Tensor], object]) -> float:
        """How many pictures go through `step(images, labels)`, over steps enough to use up what is loaded ahead."""
        batches = self._batches()
        for _ in range(WARM_UP):
            step(*next(batches))
        self._stand.wait()
        started, images = time.perf_counter(), 0
        for _ in range(max(self._stand.conditions.steps, 4 * self._workers)):
            batch, labels = next(batches)
            step(batch, labels)
            images += len(batch)
        self._stand.wait()
        return images / (time.perf_counter() - started)

    def phases(self) -> dict[str, float]:
        """Seconds that one process takes to decode a picture, and to augment it."""
        some = self._pictures.items[:DECODED]
        decoded: list[Tensor] = []
        spent = {
            "decode": self._stand.seconds(lambda: decoded.extend(load(item) for item in some)),
            "augment": self._stand.seconds(lambda: [self.transform(pixels) for pixels in decoded]),
        }
        return {name: seconds / len(some) for name, seconds in spent.items()}

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            self._order.start(epoch)
            for images, labels in self._loading:
                yield images, labels[:, 0]
            epoch += 1
