"""Taking chosen channels out of a map."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """(B, N, H, W) and (K,) -> (B, K, H, W), the channels at `index`, laid out in memory as `x` is.

    `index_select` copies the whole of a channels-last map before it takes a few of its channels, which costs a delta
    more time than all else that it does.

    Args:
        x: or (B, N), of which (B, K) are taken.
        out: where they are put, laid out as `x` is.
    """
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.index_select(x, 1, index, out=out)
    everywhere = index.long().expand(x.shape[0], x.shape[2], x.shape[3], -1)
    place = None if out is None else out.permute(0, 2, 3, 1)
    return torch.gather(x.permute(0, 2, 3, 1), 3, everywhere, out=place).permute(0, 3, 1, 2)
