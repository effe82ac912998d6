"""Channel pooling once the choice of channels is made, and gathering channels from a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.subscription import Subscribed, Subscription


def gather_channels(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
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


class FrozenSelection(Subscription):
    """Channel pooling that learns on after the choice: `y = x[index] * w`, as in Algorithm 1 with `index` a constant.

    Args:
        index: (K,), ascending.
    """

    def __init__(self, channels: int, index: Tensor, norm: bool = False, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.width, self.weight_columns = channels, len(index), len(index)
        self.index: Tensor
        self.register_buffer("index", index.clone())
        self.weight = nn.Parameter(torch.ones(self.width, device=index.device))
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(self.width, device=index.device))
        self.norm = nn.BatchNorm2d(self.width, device=index.device) if norm else None
        self.relu = relu

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> FrozenSelection:
        return cls(channels, torch.arange(keep), pooling.norm, pooling.relu)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or its chosen channels alone."""
        y = x if x.shape[1] == self.width else gather_channels(x, self.index)
        return _finished(Subscribed(y, None, self.weight * self.gain), self.norm, self.relu)

    def selected_mask(self) -> Tensor:
        return _mask(self.index, self.channels)

    def sample_channels(self) -> Tensor:
        return self.index

    def export_form(self) -> tuple[Subscription, Tensor | None]:
        chosen = ExportedPooling(self.channels, self.width, self.norm is not None, self.relu)
        chosen.index.copy_(self.index)
        chosen.scale.data = (self.weight * self.gain).detach()
        if self.norm is not None and chosen.norm is not None:
            chosen.norm.load_state_dict(self.norm.state_dict())
        return chosen, None


class ExportedPooling(Subscription):
    """Channel pooling once the choice is made: K indices and K scales, nothing of size N."""

    def __init__(self, channels: int, keep: int, norm: bool = False, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.width, self.weight_columns = channels, keep, keep
        self.index: Tensor
        self.register_buffer("index", torch.arange(keep, dtype=torch.int32))
        self.scale = nn.Parameter(torch.ones(keep))
        self.norm = nn.BatchNorm2d(keep) if norm else None
        self.relu = relu

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> ExportedPooling:
        return cls(channels, keep, pooling.norm, pooling.relu)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or its chosen channels alone."""
        y = x if x.shape[1] == self.width else gather_channels(x, self.index)
        return _finished(Subscribed(y, None, self.scale), self.norm, self.relu)

    def selected_mask(self) -> Tensor:
        return _mask(self.index.long(), self.channels)

    def sample_channels(self) -> Tensor:
        return self.index


def _mask(index: Tensor, channels: int) -> Tensor:
    return torch.zeros(channels, dtype=torch.bool, device=index.device).index_fill_(0, index, True)


def _finished(taken: Subscribed, norm: nn.Module | None, relu: bool) -> Subscribed:
    if norm is None and not relu:
        return taken
    y = taken.scaled if norm is None else norm(taken.scaled)
    return Subscribed(y.relu() if relu else y, taken.columns)
