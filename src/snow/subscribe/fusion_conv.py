"""The layer in which a delta's own channels meet the subscribed ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from snow.subscribe.subscription import Subscribed


class ColumnLayer(nn.Module, ABC):
    """A layer behind a subscription, which may still change its choice."""

    @abstractmethod
    def keep(self, columns: Tensor) -> None:
        """Keeps these slots' columns for good, in this order."""


class FusionConv(ColumnLayer):
    """Convolution over `concat(own, subscribed)` (paper, section 2.1), the first layer behind a subscription.

    Its weight (out, own + slots, k, k) has a column per own channel and per slot of the subscription. Where the
    subscription names columns, only those take part, so that a source channel meets the same weights whenever it
    is chosen.

    Convolution is linear: each side's part of it is taken alone, so that nothing is copied to concatenate it, and no
    gradient computed for the source's channels, which want none.

    Args:
        own: channels of the delta itself.
        slots: weight columns for the subscription.
        width: how many of the slots take part at a time; sets the scale of the initial weights.
    """

    def __init__(
        self, own: int, weight_columns: int, width: int, out: int, kernel: int = 1, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.own = own
        self.stride = stride
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.empty(out, own + weight_columns, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        nn.init.normal_(self.weight, std=(2.0 / ((own + width) * kernel * kernel)) ** 0.5)

    def forward(self, own: Tensor, subscribed: Subscribed | None = None) -> Tensor:
        """`own`: (B, own, H, W); `subscribed` of the same H, W, if any. Returns (B, out, H/stride, W/stride)."""
        mine = self._convolved(own, self.weight[:, : self.own], self.bias)
        if subscribed is None or not subscribed.features.shape[1]:
            return mine
        theirs = self._theirs(subscribed.columns)
        if subscribed.scale is not None:
            theirs = theirs * subscribed.scale.to(theirs).view(-1, 1, 1)
        return mine.add_(self._convolved(subscribed.features, theirs, None))

    def keep(self, columns: Tensor) -> None:
        kept = torch.cat([self.weight[:, : self.own], self._theirs(columns)], 1)
        self.weight = nn.Parameter(kept.detach().clone())

    def _theirs(self, columns: Tensor | None) -> Tensor:
        theirs = self.weight[:, self.own :]
        return theirs if columns is None else theirs.index_select(1, columns)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride = self.stride
        if weight.shape[-1] == 1 and stride > 1:
            # as a stride has it; on a CPU torch 2.14 writes past the gradient of some strided 1×1 kernels
            x, stride = x[..., ::stride, ::stride], 1
        return nn.functional.conv2d(x, weight, bias, stride, self.padding)
