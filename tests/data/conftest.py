from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """Writes a picture of noise; the file's name sets the format, `seed` the pixels."""

    def write(
        path: Path, *, seed: int = 0, size: tuple[int, int] = (24, 16), mode: str = "RGB", **options: Any
    ) -> Path:
        width, height = size
        channels = 4 if "A" in mode else 3
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """train/ and test/ with classes cat and dog, three and two pictures each."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("dog", "cat"):
            for number in range(count):
                draw(tmp_path / split / name / f"{number}.png", seed=number + 10 * len(split) + 100 * (name == "dog"))
    return tmp_path
