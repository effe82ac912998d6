"""The layer that fuses a delta's own channels with the subscribed ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from snow.subscribe.subscription import SubscribedMap


class ColumnLayer(nn.Module, ABC):
    """A layer behind a subscription, with one weight column per channel that the subscription may select."""

    @abstractmethod
    def keep(self, columns: Tensor) -> None:
        """Drop all weight columns of the subscription but these (K,), in this order."""


class FusionConv(ColumnLayer):
    """Convolve `concat(own, subscribed)`: (B, own, H, W), (B, K, H, W) -> (B, out, H/stride, W/stride).

    This is the first layer behind a subscription (paper, section 2.1). Its weight (out, own + weight_columns, k, k)
    has a column per own channel and per column of the subscription. If the subscribed map names columns, only those
    take part, so a source channel meets the same weights whenever it is selected.

    Convolution is linear, so the two inputs are convolved apart and summed:

        y = conv(own, W_own) + conv(subscribed, W_sub * scale)

    This saves the copy of a concatenation, and the gradient with respect to the source's channels.

    Args:
        own: channels of the delta.
        weight_columns: columns for the subscription.
        width: how many of these columns take part at a time; sets the scale of the initial weights (He et al., 2015).
        out: channels of the output.
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

    def forward(self, own: Tensor, subscribed: SubscribedMap | None = None) -> Tensor:
        """Fuse `own` (B, own, H, W) with a subscribed map of the same H, W, if there is one."""
        y = self._convolve(own, self.weight[:, : self.own], self.bias)
        if subscribed is None or not subscribed.features.shape[1]:
            return y
        weight = self._subscribed_weight(subscribed.columns)
        if subscribed.scale is not None:
            weight = weight * subscribed.scale.to(weight).view(-1, 1, 1)
        return y.add_(self._convolve(subscribed.features, weight, None))

    def keep(self, columns: Tensor) -> None:
        kept = torch.cat([self.weight[:, : self.own], self._subscribed_weight(columns)], 1)
        self.weight = nn.Parameter(kept.detach().clone())

    def _subscribed_weight(self, columns: Tensor | None) -> Tensor:
        weight = self.weight[:, self.own :]
        return weight if columns is None else weight.index_select(1, columns)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride = self.stride
        if weight.shape[-1] == 1 and stride > 1:
            # the same as a stride; on a CPU, torch 2.14 writes past the gradient of some strided 1×1 kernels
            x, stride = x[..., ::stride, ::stride], 1
        return nn.functional.conv2d(x, weight, bias, stride, self.padding)
