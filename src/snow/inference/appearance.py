"""What a picture looks like apart from what it shows: its light, contrast, tint and sharpness.

A network's final features hardly move when a picture gets darker; these figures do.

Shape letters: B pictures, S side of a picture in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = 3
"""Scales of the Haar wavelet whose strengths are measured: details of 2, 4 and 8 pixels."""

MIDDLE = 128
"""Side of the square that is measured, in pixels. That takes half a millisecond a picture, whatever its size."""

CHUNK = 4
"""Pictures that are measured at once, in the processor's cache."""

FIGURES = 4 + 2 * SCALES
"""Number of figures for each picture."""

LUMA = (0.299, 0.587, 0.114)
FLOOR = 0.01
"""Added before a logarithm, in shares of full light: differences below it do not count."""

DETAIL_FLOOR = 0.001


def appearance(images: Tensor) -> Tensor:
    """Measure how the middle of pictures looks: (B, 3, S, S) uint8 -> (B, `FIGURES`) float32 on the CPU.

    The figures are the logarithms of the mean and of the deviation of the light, red against green and blue against
    yellow relative to the light, and for each scale of a Haar wavelet the logarithm of its mean strength along edges
    and along diagonals. Blur weakens the finest, noise strengthens them.
    """
    parts = [_figures(part) for part in images.split(CHUNK if images.device.type == "cpu" else max(1, len(images)))]
    return torch.cat(parts).cpu()


def _figures(images: Tensor) -> Tensor:
    top, left = (max(0, side - MIDDLE) // 2 for side in images.shape[2:])
    pixels = images[:, :, top : top + MIDDLE, left : left + MIDDLE].float() / 255
    light = torch.einsum("bcij,c->bij", pixels, pixels.new_tensor(LUMA))
    mean = light.mean((1, 2))
    red, green, blue = pixels.mean((2, 3)).unbind(1)
    scaled = mean + FLOOR
    figures = [
        scaled.log(),
        (light.std((1, 2), correction=0) + FLOOR).log(),
        (red - green) / scaled,
        (blue - (red + green) / 2) / scaled,
    ]
    for _ in range(SCALES):
        edges, diagonals, light = _details(light)
        figures += [(edges + DETAIL_FLOOR).log(), (diagonals + DETAIL_FLOOR).log()]
    return torch.stack(figures, 1)


def _details(light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of a Haar wavelet: (B, h, w) -> strength of edges (B,), of diagonals (B,), and (B, h/2, w/2).

    What is too small to be halved has no details, and stays.
    """
    height, width = (side // 2 * 2 for side in light.shape[1:])
    if not height or not width:
        nothing = light.new_zeros(len(light))
        return nothing, nothing, light
    a, b, c, d = (light[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1))
    across, down, diagonal = ((part / 4).abs().mean((1, 2)) for part in (a - b + c - d, a + b - c - d, a - b - c + d))
    return across + down, diagonal, (a + b + c + d) / 4
