"""The layer in which a delta's own channels meet the subscribed ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe.slots import Slots
from snow.subscribe.subscription import Subscribed


class Mix(Slots):
    """Convolution over `concat(own, subscribed)` (paper, section 2.1), the first layer behind a subscription.

    Its weight (out, own + slots, k, k) has a column per own channel and per slot of the subscription. Where the
    subscription names columns, only those take part, so that a source channel meets the same weights whenever it
    is chosen.

    Args:
        own: channels of the delta itself.
        slots: weight columns for the subscription.
        width: how many of the slots take part at a time; sets the scale of the initial weights.
    """

    def __init__(
        self, own: int, slots: int, width: int, out: int, kernel: int = 1, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.own = own
        self.stride = stride
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.empty(out, own + slots, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        nn.init.normal_(self.weight, std=(2.0 / ((own + width) * kernel * kernel)) ** 0.5)

    def forward(self, own: Tensor, subscribed: Subscribed | None = None) -> Tensor:
        """`own`: (B, own, H, W); `subscribed` of the same H, W. Returns (B, out, H/stride, W/stride)."""
        weight = self.weight
        x = own
        if subscribed is not None:
            x = torch.cat([own, subscribed.features], 1)
            if subscribed.columns is not None:
                weight = self._gathered(subscribed.columns)
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)

    def keep(self, columns: Tensor) -> None:
        self.weight = nn.Parameter(self._gathered(columns).detach().clone())

    def _gathered(self, columns: Tensor) -> Tensor:
        return torch.cat([self.weight[:, : self.own], self.weight[:, self.own :].index_select(1, columns)], 1)
