"""How pictures are prepared for a model of `transformers`, from its `preprocessor_config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snow.errors import SnowError
from snow.source.preprocessing import Preprocessing

RESAMPLING = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}
"""Numbers of Pillow, and the nearest of `INTERPOLATIONS`."""


def read_processor(found: Mapping[str, Any], own_size: object, image_size: int | None = None) -> Preprocessing:
    """Read how pictures are prepared from the content of `preprocessor_config.json`.

    Args:
        own_size: of the model's configuration, where the processor names none.
        image_size: side of the picture in pixels; None: the model's own.

    Raises:
        SnowError: the model takes pictures that are not square, and no size is given; or a value is of another type.
    """
    try:
        return _preprocessing(found, own_size, image_size)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SnowError):
            raise
        raise SnowError(f"how pictures are prepared cannot be read: {error}") from error


def _preprocessing(found: Mapping[str, Any], own_size: object, image_size: int | None) -> Preprocessing:
    size, crop = found.get("size"), found.get("crop_size")
    mean, std = _normalisation(found)
    resize, crop_pct = "crop", 1.0
    if "crop_pct" in found:
        side = _side(size) or _side(own_size)
        if side is None or side < 384:
            crop_pct = float(found["crop_pct"] or 1)
        else:
            resize = "squash"  # as processors of ConvNeXt do with large pictures
    elif found.get("do_center_crop") and (crop or size):
        side = _side(crop or size)
        crop_pct = min(1.0, (side or 1) / (_side(size) or side or 1))
    else:
        side = _side(size) or _side(own_size)
        is_short_side = isinstance(size, Mapping) and "shortest_edge" in size
        resize = "crop" if is_short_side or not found else "squash"
        crop_pct = 1.0 if found else Preprocessing.crop_pct
    if image_size is None and side is None and (size or own_size):
        raise SnowError(f"it takes pictures of {size or own_size}, which are not square: name an image size")
    interpolation = RESAMPLING.get(found.get("resample", 3), "bicubic")
    return Preprocessing(image_size or side or 224, mean, std, interpolation, crop_pct, resize)


def _side(size: object) -> int | None:
    """Return the side of a square in pixels, of any spelling; None: it is no square."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        size = (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        return int(size[0]) if len(size) == 2 and size[0] == size[1] and size[0] else None
    return int(size) if isinstance(size, int) else None


def _normalisation(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return mean and std on a scale of 0..1. Processors may scale pictures otherwise, shift them, or divide twice."""
    mean, std = (0.0,) * 3, (1.0,) * 3
    if found.get("do_normalize", True):
        mean = tuple(found.get("image_mean") or Preprocessing.mean)
        std = tuple(found.get("image_std") or Preprocessing.std)
    rescales = found.get("do_rescale", True)
    scale = 255.0 * (found.get("rescale_factor", 1 / 255) if rescales else 1.0)
    shift = 1.0 if rescales and found.get("rescale_offset") else 0.0
    if abs(scale - 1) > 1e-6 or shift:
        mean, std = tuple((value + shift) / scale for value in mean), tuple(value / scale for value in std)
    if found.get("include_top"):  # of EfficientNet
        own = tuple(found.get("image_std") or Preprocessing.std)
        std = tuple(value * other for value, other in zip(std, own, strict=True))
    return mean, std
