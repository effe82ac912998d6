"""Channel-wise attention as a subscription: the channel part of CBAM (Woo et al., 2018; paper, Table 2)."""

from __future__ import annotations

from torch import Tensor, nn

from snow.subscribe.channel_pooling import PoolingConfig
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
        self.channels = self.width = self.slots = channels
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
