"""How a picture becomes what a source was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from snow.errors import SnowError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")

RESIZES = ("crop", "pad", "squash")
"""Ways from a picture of any shape to a square."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a square.

    Attributes:
        image_size: side of the square in pixels.
        mean: of each channel on a 0..1 scale.
        std: of each channel, likewise.
        interpolation: one of `INTERPOLATIONS`.
        crop_pct: with crop, side of the square beside the short side of the resized picture.
        resize: crop resizes the short side and cuts the centre out, pad fits the whole picture into the square and
            fills the rest with the mean, squash resizes both sides to that of the square.

    Raises:
        SnowError: a size below 16 pixels, a crop outside (0, 1], an unknown interpolation or way to resize, a std of
            zero.
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
        """`images`: (B, 3, H, W), uint8 in 0..255 or floating in 0..1. Returns floating, zero mean, unit std."""
        own = images.clone() if images.is_floating_point() else images.float().div_(255)
        mean = torch.tensor(self.mean, dtype=own.dtype, device=own.device)
        std = torch.tensor(self.std, dtype=own.dtype, device=own.device)
        if own.is_contiguous(memory_format=torch.channels_last):
            width = own.shape[3]  # by the line of W pixels: to repeat three numbers for each pixel takes longer
            own.permute(0, 2, 3, 1).flatten(2).sub_(mean.repeat(width)).div_(std.repeat(width))
            return own
        return own.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values. `resize` is left out where it is crop: fingerprints from before there was a choice stay."""
        values = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        if self.resize == "crop":
            del values["resize"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        known = cls.__dataclass_fields__
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SnowError(f"unknown preprocessing {', '.join(unknown)}: this file is from a newer version")
        return cls(**values)
