"""One picture in whatever form a Python program has it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from io import BytesIO, IOBase

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from snow.data.decode import decode, decode_file, to_8_bits, to_rgb
from snow.data.transforms import eval_transform
from snow.errors import SnowError
from snow.source import Preprocessing

Input = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor
"""What `to_pixels` takes."""

_ONE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, IOBase, Mapping)
"""Iterable things that are no sequence of pictures."""


def to_pixels(image: object, name: str = "picture") -> Tensor:
    """Convert one picture to RGB: any of `Input` -> uint8 (3, H, W).

    Args:
        image: the path of a file; the content of one as bytes or as an open binary file; a Pillow image; a NumPy array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W), where an
            array may also be (C, H, W) and a tensor (H, W, C) if only that fits. Numbers are uint8 or uint16, or
            floating: in 0..1, or whole numbers up to 255.
        name: stands for the picture in errors; a path names itself.

    Raises:
        SnowError: another type or shape, numbers out of range, or a file that cannot be decoded.
    """
    if isinstance(image, str | os.PathLike):
        return decode(os.fsdecode(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_file(BytesIO(bytes(image)), name)
    if isinstance(image, Image.Image):
        return to_rgb(image.copy(), name)
    if isinstance(image, Tensor):
        return _from_numbers(
            image.detach().cpu().float().numpy() if image.is_floating_point() else image.detach().cpu().numpy(),
            name,
            channels_first=True,
        )
    if isinstance(image, np.ndarray):
        return _from_numbers(image, name, channels_first=False)
    read = getattr(image, "read", None)
    content = read() if callable(read) else None
    if isinstance(content, bytes):
        return decode_file(BytesIO(content), name)
    kinds = "a path, bytes, an open binary file, a Pillow image, an array or a tensor"
    raise SnowError(f"{name}: {type(image).__name__} is no picture: pass {kinds}")


def to_batch(images: object, preprocessing: Preprocessing) -> Tensor:
    """Prepare pictures for a source: one, or any number of `Input` -> uint8 (B, 3, S, S).

    Args:
        images: one picture or an iterable of pictures, which are resized and cropped as in evaluation; or a tensor
            (B, 3, S, S) of pictures that are prepared already.

    Raises:
        SnowError: as `to_pixels`, which says the number of the picture; or a tensor of another shape.
    """
    size = preprocessing.image_size
    if isinstance(images, Tensor) and images.ndim == 4:
        if images.shape[1:] != (3, size, size):
            expected = f"pictures of shape (3, {size}, {size})"
            raise SnowError(f"the source takes {expected} in a batch, not {tuple(images.shape[1:])}: pass a list")
        if images.dtype == torch.uint8:
            return images
        return torch.stack([to_pixels(image, f"picture {n}") for n, image in enumerate(images)])
    is_one = isinstance(images, _ONE) or (isinstance(images, Tensor | np.ndarray) and images.ndim < 4)
    pictures: list[object] = [images] if is_one or not isinstance(images, Iterable) else list(images)
    prepare = eval_transform(preprocessing)
    prepared = [prepare(to_pixels(image, f"picture {n}")) for n, image in enumerate(pictures)]
    return torch.stack(prepared) if prepared else torch.empty(0, 3, size, size, dtype=torch.uint8)


def _from_numbers(values: np.ndarray, name: str, channels_first: bool) -> Tensor:
    values = _with_channels_last(values, name, channels_first)
    if not values.size:
        raise SnowError(f"{name}: the picture has no pixels")
    if values.shape[2] == 1:
        values = values.repeat(3, axis=2)
    pixels = _to_bytes(values, name)
    if pixels.shape[2] == 4:
        return to_rgb(Image.fromarray(np.ascontiguousarray(pixels), "RGBA"), name)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _with_channels_last(values: np.ndarray, name: str, channels_first: bool) -> np.ndarray:
    """(H, W, C) with C of 1, 3 or 4; where both ends could be channels, `channels_first` decides."""
    shape = values.shape
    if values.ndim == 2:
        return values[:, :, None]
    if values.ndim == 3:
        for first in (channels_first, not channels_first):
            if shape[0 if first else 2] in (1, 3, 4):
                return np.moveaxis(values, 0, 2) if first else values
    raise SnowError(f"{name}: shape {tuple(shape)} is not that of one picture: use (H, W, 3) or (3, H, W)")


def _to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return to_8_bits(values)
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 1:
            return (values * 255).round().astype(np.uint8)
        if low >= 0 and high <= 255 and (values == np.floor(values)).all():
            return values.astype(np.uint8)
        raise SnowError(f"{name}: floats from {low:g} to {high:g} are neither in 0..1 nor whole numbers up to 255")
    raise SnowError(f"{name}: numbers of type {values.dtype} have no agreed range: pass uint8, or floats in 0..1")
