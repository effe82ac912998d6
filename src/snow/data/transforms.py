"""From a decoded picture to the square that a source takes: uint8 (3, H, W) to uint8 (3, S, S)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from snow.data.pictures import Transform
from snow.errors import SnowError
from snow.source import Preprocessing

LONGEST = 8
"""A picture more than this many times longer than wide is cut to its middle before it is resized."""


class Middle(torch.nn.Module):
    """Crop the middle of a picture (3, H, W) so that the long side is at most `LONGEST` times the short one.

    Without it, resizing the short side of a strip of 1 x 60,000 pixels would ask for gigabytes.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        longest = LONGEST * min(height, width)
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        return pixels[..., top : top + longest, left : left + longest]


class Square(torch.nn.Module):
    """Fit all of a picture into a square: (3, H, W) -> (3, side, side).

    Args:
        preprocessing: pad resizes the long side and fills the rest with the mean, squash resizes both sides.
        largest: of `side`, which is the picture's long side where that is smaller, but at least `image_size`.
    """

    def __init__(self, preprocessing: Preprocessing, largest: int) -> None:
        super().__init__()
        self._mode, self._pads = _interpolation(preprocessing), preprocessing.resize == "pad"
        self._smallest, self._largest = preprocessing.image_size, largest
        self._fill = [float(round(255 * mean)) for mean in preprocessing.mean]

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        side = min(max(height, width, self._smallest), self._largest)
        if not self._pads:
            return v2.functional.resize(pixels, [side, side], self._mode, antialias=True)
        scale = side / max(height, width)
        size = [max(round(height * scale), 1), max(round(width * scale), 1)]
        fitted = v2.functional.resize(pixels, size, self._mode, antialias=True)
        top, left = (side - size[0]) // 2, (side - size[1]) // 2
        edges = [left, top, side - size[1] - left, side - size[0] - top]
        return v2.functional.pad(fitted, edges, fill=self._fill)


def _interpolation(preprocessing: Preprocessing) -> v2.InterpolationMode:
    return v2.InterpolationMode(preprocessing.interpolation)


def _central(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    if preprocessing.resize != "crop":
        return [Square(preprocessing, preprocessing.image_size)]
    resize = v2.Resize(preprocessing.short_side, _interpolation(preprocessing), antialias=True)
    return [Middle(), resize, v2.CenterCrop(preprocessing.image_size)]


def _crop(preprocessing: Preprocessing, smallest: float) -> list[torch.nn.Module]:
    mode = _interpolation(preprocessing)
    crop = v2.RandomResizedCrop(preprocessing.image_size, (smallest, 1.0), interpolation=mode, antialias=True)
    return [crop] if preprocessing.resize == "crop" else [Square(preprocessing, 2 * preprocessing.image_size), crop]


def _trivial(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    return [*_crop(preprocessing, 0.08), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide()]


AUGMENTS: dict[str, Callable[[Preprocessing], list[torch.nn.Module]]] = {
    "none": _central,
    "flip": lambda preprocessing: [*_central(preprocessing), v2.RandomHorizontalFlip()],
    "shift": lambda preprocessing: _crop(preprocessing, 0.35),
    "mild": lambda preprocessing: [*_crop(preprocessing, 0.35), v2.RandomHorizontalFlip()],
    "crop": lambda preprocessing: [*_crop(preprocessing, 0.08), v2.RandomHorizontalFlip()],
    "trivial": _trivial,
}
"""Names of augmentations, weakest first.

- `none`: as in evaluation.
- `flip`: as in evaluation, half of them mirrored.
- `shift`: a random part of at least 35 % of the area, never mirrored (digits, letters, left against right).
- `mild`: `shift`, half of them mirrored.
- `crop`: a random part of at least 8 % of the area, half of them mirrored; the usual choice for ImageNet.
- `trivial`: `crop`, then one random operation on colour or shape (TrivialAugment, Müller and Hutter, 2021).
"""


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Make the transform of evaluation: resize and crop the centre, or as `Preprocessing.resize` says."""
    return v2.Compose(_central(preprocessing))


def train_transform(preprocessing: Preprocessing, augment: str = "crop") -> Transform:
    """Make one of `AUGMENTS`, which draws from torch's global CPU generator, anew for every picture.

    Raises:
        SnowError: an unknown name.
    """
    if augment not in AUGMENTS:
        raise SnowError(f"unknown augmentation {augment!r}: use one of {', '.join(AUGMENTS)}")
    return v2.Compose(AUGMENTS[augment](preprocessing))
