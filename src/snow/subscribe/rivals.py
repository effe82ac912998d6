"""The subscriptions that the paper compares with channel pooling (Table 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.subscription import SubscribedMap, Subscription


class ChannelAttention(Subscription):
    """Weight all channels by attention: (B, N, H, W) -> (B, N, H, W) (Woo et al., CBAM, 2018).

        y = x * sigmoid(MLP(mean over space) + MLP(max over space))

    Args:
        channels: N.
        reduction: the hidden layer of the MLP has N / reduction units, so it has 2 N² / reduction weights. Woo et al.
            use 16; 8 fits Table 6, and is the factor by which everything else in the paper is narrowed.
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

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        attention = (self._mlp(x.mean((2, 3))) + self._mlp(x.amax((2, 3)))).sigmoid()
        return SubscribedMap(x * attention[:, :, None, None], None)

    def _mlp(self, pooled: Tensor) -> Tensor:
        return self.excite(self.squeeze(pooled).relu())


class Conv1x1(Subscription):
    """Mix channels by a 1×1 convolution, BatchNorm and ReLU: (B, N, H, W) -> (B, K, H, W) (Rusu et al., 2016)."""

    def __init__(self, channels: int, keep: int) -> None:
        super().__init__()
        self.channels, self.width, self.weight_columns = channels, keep, keep
        self.conv = nn.Conv2d(channels, keep, 1, bias=False)
        self.norm = nn.BatchNorm2d(keep)

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Conv1x1:
        return cls(channels, keep)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        return SubscribedMap(self.norm(self.conv(x)).relu(), None)


class AllChannels(Subscription):
    """Pass the whole map: (B, N, H, W) -> (B, N, H, W). No parameters here, N weight columns in the layer behind."""

    passes_channels = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.width = self.weight_columns = channels

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> AllChannels:
        return cls(channels)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        return SubscribedMap(x, None, moments=moments)

    def channel_scale(self) -> Tensor:
        return torch.ones(self.channels)
