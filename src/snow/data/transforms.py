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
    """Cuts (3, H, W) so that the long side is at most `LONGEST` times the short one.

    Without it, resizing the short side of a strip of 1 x 60,000 pixels would ask for gigabytes.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        longest = LONGEST * min(height, width)
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        return pixels[..., top : top + longest, left : left + longest]


def _interpolation(preprocessing: Preprocessing) -> v2.InterpolationMode:
    return v2.InterpolationMode(preprocessing.interpolation)


def _central(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    resize = v2.Resize(preprocessing.resize, _interpolation(preprocessing), antialias=True)
    return [Middle(), resize, v2.CenterCrop(preprocessing.image_size)]


def _crop(preprocessing: Preprocessing, smallest: float) -> list[torch.nn.Module]:
    mode = _interpolation(preprocessing)
    return [v2.RandomResizedCrop(preprocessing.image_size, (smallest, 1.0), interpolation=mode, antialias=True)]


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
    """Resizes the short side and cuts the centre, as timm does for evaluation."""
    return v2.Compose(_central(preprocessing))


def train_transform(preprocessing: Preprocessing, augment: str = "crop") -> Transform:
    """One of `AUGMENTS`. It draws from torch's global CPU generator, anew for every picture.

    Raises:
        SnowError: an unknown name.
    """
    if augment not in AUGMENTS:
        raise SnowError(f"unknown augmentation {augment!r}: use one of {', '.join(AUGMENTS)}")
    return v2.Compose(AUGMENTS[augment](preprocessing))
