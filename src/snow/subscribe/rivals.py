"""The subscriptions that the paper compares channel pooling with (Table 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.subscription import Subscribed, Subscription


class ChannelAttention(Subscription):
    """Every channel passes, weighted by a two-layer network that sees the mean and the maximum of each.

    Args:
        channels: N.
        reduction: the hidden layer has N / reduction units: 2·N² / reduction weights. 16 in Woo et al.; 8 fits Table 6
            of the SNOW paper, and is the factor by which everything else there is narrowed.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.channels = self.width = self.weight_columns = channels
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> ChannelAttention:
        return cls(channels)

    def forward(self, x: Tensor) -> Subscribed:
        weight = (self._weigh(x.mean((2, 3))) + self._weigh(x.amax((2, 3)))).sigmoid()
        return Subscribed(x * weight[:, :, None, None], None)

    def _weigh(self, pooled: Tensor) -> Tensor:
        return self.excite(self.squeeze(pooled).relu())


class Conv1x1(Subscription):
    """Mixes N channels into K by a 1×1 convolution, with BatchNorm and ReLU behind it (Rusu et al., 2016)."""

    def __init__(self, channels: int, keep: int) -> None:
        super().__init__()
        self.channels, self.width, self.weight_columns = channels, keep, keep
        self.conv = nn.Conv2d(channels, keep, 1, bias=False)
        self.norm = nn.BatchNorm2d(keep)

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Conv1x1:
        return cls(channels, keep)

    def forward(self, x: Tensor) -> Subscribed:
        return Subscribed(self.norm(self.conv(x)).relu(), None)


class AllChannels(Subscription):
    """The whole map of N channels, without parameters; the layer behind it pays N weight columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.width = self.weight_columns = channels

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> AllChannels:
        return cls(channels)

    def forward(self, x: Tensor) -> Subscribed:
        return Subscribed(x, None)

    def channel_scale(self) -> Tensor:
        return torch.ones(self.channels)
