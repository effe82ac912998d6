"""Photographs that are installed with this package, to see what values the maps of a source take."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from snow.preprocessing import Preprocessing

PHOTOGRAPHS = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
"""People, animals, things, places, textures."""

CROPS = ((0.0, 0.0, 1.0), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5), (0.25, 0.25, 0.5))
"""Top, left and side of square parts, of the short side."""


def photographs(preprocessing: Preprocessing) -> Tensor:
    """(44, 3, S, S) of uint8: square parts of each, as large as the source takes them."""
    size = [preprocessing.image_size] * 2
    found = []
    for name in PHOTOGRAPHS:
        package, _, rest = name.partition("/")
        with Image.open(Path(str(files(package))) / rest) as picture:
            pixels = pil_to_tensor(picture.convert("RGB"))
        short = min(pixels.shape[-2:])
        for square in CROPS:
            top, left, side = (round(part * short) for part in square)
            found.append(resized_crop(pixels, top, left, side, side, size, antialias=True))
    return torch.stack(found)
