"""Weights in few bits: whole numbers and a scale for each row, on top of a base (cf. BitDelta, Liu et al., 2024).

    w = base + scale * code,    code in -L..L,    L = 2^(bits - 1) - 1

What a fine-tuned copy learned is small beside the weights that it started from, so that the difference of both bears
coarse steps which the weights themselves would not.

Shape letters:
    O     output channels, the first dimension of a weight
    I     all its other dimensions together
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from snow.methods.method import Method
from snow.source import Source

BITS = (4, 8)
"""Bits of a code."""

FULL_BITS = 32
"""Bits of weights as they are."""

WITHOUT_BASE = 8
"""Bits of the codes of weights that started from zero or at random, at least: these bear no coarser steps."""

SMALLEST, SHORTEST = 4096, 16
"""Numbers of a weight, and of a row of it, below which its codes would save next to nothing."""

CLIPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Shares of the largest value of a row that are tried as the largest step: what is above is clipped."""


def bits_of(shape: Sequence[int], dtype: torch.dtype, has_base: bool, bits: int) -> int | None:
    """Return the bits of the codes of a tensor where those with a base have `bits`; None: it stays as it is."""
    if dtype != torch.float32 or len(shape) < 2 or prod(shape) < SMALLEST or prod(shape[1:]) < SHORTEST:
        return None
    return bits if has_base else max(bits, WITHOUT_BASE)


def find_base(method: Method, name: str, shape: Sequence[int], source: Source) -> Tensor | None:
    """Return the tensor of the source on top of which a tensor of the method is coded; None: it has none."""
    base = method.base_of(name, source)
    return base if base is not None and tuple(base.shape) == tuple(shape) else None


@torch.no_grad()
def round_weights(method: Method, source: Source, bits: int) -> None:
    """Round the weights of a method in place to what codes of so many bits can say."""
    for name, weight in method.named_parameters():
        base = find_base(method, name, weight.shape, source)
        chosen = bits_of(weight.shape, weight.dtype, base is not None, bits)
        if chosen is not None:
            difference = weight if base is None else weight - base.to(weight.device)
            weight.add_(decode(*encode(difference, chosen), weight.shape, chosen) - difference)


def encode(difference: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a weight with the scale of each row that leaves the smallest squared error.

    Args:
        difference: (O, ...), of the weight from its base.

    Returns:
        Codes, uint8, (O, ceil(I * bits / 8)), and scales, (O,).
    """
    rows = difference.detach().flatten(1).float()
    levels = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * 2**bits)
    best, least = largest / levels, torch.full((len(rows), 1), torch.inf, device=rows.device)
    for clip in CLIPS:
        scale = largest * clip / levels
        error = (_rounded(rows, scale, levels) * scale - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    codes = (_rounded(rows, best, levels) + levels).to(torch.uint8)
    return (codes if bits == 8 else _packed(codes)), best.flatten()


def decode(codes: Tensor, scale: Tensor, shape: Sequence[int], bits: int) -> Tensor:
    """Return the difference that `encode` rounded, of this shape."""
    numbers = codes if bits == 8 else torch.stack([codes & 15, codes >> 4], -1).flatten(1)
    count = prod(shape[1:])
    levels = 2 ** (bits - 1) - 1
    return ((numbers[:, :count].to(scale.dtype) - levels) * scale[:, None]).view(tuple(shape))


def code_shape(shape: Sequence[int], bits: int) -> tuple[int, int]:
    """Return the shape of the codes of a weight."""
    return shape[0], -(-prod(shape[1:]) * bits // 8)


def _rounded(rows: Tensor, scale: Tensor, levels: int) -> Tensor:
    return (rows / scale).round().clamp(-levels, levels)


def _packed(codes: Tensor) -> Tensor:
    """Pack two codes of 4 bits into a byte, the first of them into its lower half."""
    even = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2))
    return even[:, ::2] | (even[:, 1::2] << 4)
