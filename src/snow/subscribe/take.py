"""Taking chosen channels out of a map."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """(B, N, H, W) and (K,) -> (B, K, H, W), the channels at `index`, laid out in memory as `x` is.

    `index_select` copies the whole of a channels-last map before it takes a few of its channels, which costs a delta
    more time than all else that it does.
    """
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.index_select(1, index)
    everywhere = index.long().expand(x.shape[0], x.shape[2], x.shape[3], -1)
    return x.permute(0, 2, 3, 1).gather(3, everywhere).permute(0, 3, 1, 2)
