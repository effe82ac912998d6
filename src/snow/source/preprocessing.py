"""How pictures are resized, cropped and normalised for a source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.source.description import MAX_IMAGE_SIZE

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")

RESIZES = ("crop", "pad", "squash")
"""Ways from a picture of any shape to a square."""


@dataclass(frozen=True)
class Preprocessing:
    """Prepares pictures as for the training of a source: resize to a square, normalise.

    Attributes:
        image_size: S, side of the square picture in pixels.
        mean: per RGB channel, on a 0..1 scale.
        std: per RGB channel, on a 0..1 scale.
        interpolation: of the resizing, one of `INTERPOLATIONS`.
        crop_pct: with crop, S divided by the short side before the centre crop.
        resize: crop resizes the short side and crops the centre, pad fits all of the picture into the square and fills
            the rest with the mean, squash resizes both sides to S.

    Raises:
        SnowError: a size below 16 or above 8,192 pixels, a crop outside (0, 1], an unknown interpolation or way to
            resize, a std of zero.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    resize: str = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.image_size < 16:
            raise SnowError(f"image size {self.image_size} is too small: use at least 16 pixels")
        if self.image_size > MAX_IMAGE_SIZE:
            raise SnowError(f"image size {self.image_size} is too large: use at most {MAX_IMAGE_SIZE} pixels")
        if not 0 < self.crop_pct <= 1:
            raise SnowError(f"crop_pct {self.crop_pct} is outside (0, 1]")
        if self.interpolation not in INTERPOLATIONS:
            raise SnowError(f"unknown interpolation {self.interpolation!r}: use one of {', '.join(INTERPOLATIONS)}")
        if self.resize not in RESIZES:
            raise SnowError(f"unknown way to resize {self.resize!r}: use one of {', '.join(RESIZES)}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise SnowError("mean and std need three values each, and std must be positive")

    @property
    def short_side(self) -> int:
        """Short side in pixels before the centre crop."""
        return math.floor(self.image_size / self.crop_pct)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, S, S), uint8 in 0..255 or floating point in 0..1, by mean and std."""
        x = images.clone() if images.is_floating_point() else images.float().div_(255)
        mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device)
        std = torch.tensor(self.std, dtype=x.dtype, device=x.device)
        if x.is_contiguous(memory_format=torch.channels_last):
            width = x.shape[3]  # by rows of W pixels: broadcasting three numbers to each pixel is slower
            x.permute(0, 2, 3, 1).flatten(2).sub_(mean.repeat(width)).div_(std.repeat(width))
            return x
        return x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values. `resize` is left out at its default, so that fingerprints of version 0.1 hold."""
        values = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        if self.resize == "crop":
            del values["resize"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read the result of `to_dict`. Raises SnowError for an unknown key."""
        known = cls.__dataclass_fields__
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SnowError(f"unknown preprocessing {', '.join(unknown)}: this file is from a newer version")
        return cls(**values)
