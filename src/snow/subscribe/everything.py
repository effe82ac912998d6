"""Subscribe to all: every channel passes as it is (paper, Table 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from snow.subscribe.channel_pooling import PoolingConfig
from snow.subscribe.subscription import Subscribed, Subscription


class Everything(Subscription):
    """The whole map of N channels, without parameters; the layer behind it pays N weight columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.width = self.slots = channels

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Everything:
        return cls(channels)

    def forward(self, x: Tensor) -> Subscribed:
        return Subscribed(x, None)

    def factors(self) -> Tensor:
        return torch.ones(self.channels)
