"""Channel pooling with a fixed selection: one form for further training, one for saving and inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.subscription import Replacement, SubscribedMap, Subscription


def gather_channels(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Gather channels of a map: (B, N, H, W) and (K,) -> (B, K, H, W), in the memory format of `x`.

    `index_select` first copies a channels-last map to contiguous memory. That takes longer than the rest of a delta,
    so such a map is gathered along its last axis in memory.

    Args:
        x: a map (B, N, H, W), or features (B, N), which give (B, K).
        index: the K channels.
        out: tensor to write the result to, in the memory format of `x`.
    """
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.index_select(x, 1, index, out=out)
    index_map = index.long().expand(x.shape[0], x.shape[2], x.shape[3], -1)
    out_view = None if out is None else out.permute(0, 2, 3, 1)
    return torch.gather(x.permute(0, 2, 3, 1), 3, index_map, out=out_view).permute(0, 3, 1, 2)


def gather_moments(moments: Tensor | None, index: Tensor) -> Tensor | None:
    """Gather moments of channels: (B, 2, N) and (K,) -> (B, 2, K), if there are any, and not of these K alone."""
    return moments if moments is None or moments.shape[2] == len(index) else moments.index_select(2, index)


class FrozenSelection(Subscription):
    """Scale K fixed channels by learnable scalars: (B, N, H, W) -> (B, K, H, W), `y = x[index] * w * gain`.

    This is Algorithm 1 with a constant `index`.

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
        self.passes_channels = not (norm or relu)

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> FrozenSelection:
        return cls(channels, torch.arange(keep), pooling.norm, pooling.relu)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        """Accept the whole map (B, N, H, W), or its K selected channels (B, K, H, W)."""
        x = x if x.shape[1] == self.width else gather_channels(x, self.index)
        moments = gather_moments(moments, self.index)
        return norm_relu(SubscribedMap(x, None, self.weight * self.gain, moments), self.norm, self.relu)

    def selected_mask(self) -> Tensor:
        return index_mask(self.index, self.channels)

    def sample_channels(self) -> Tensor:
        return self.index

    def export_form(self) -> Replacement:
        exported = ExportedPooling(self.channels, self.width, self.norm is not None, self.relu)
        exported.index.copy_(self.index)
        exported.scale.data = (self.weight * self.gain).detach()
        if self.norm is not None and exported.norm is not None:
            exported.norm.load_state_dict(self.norm.state_dict())
        return Replacement(exported, None)


class ExportedPooling(Subscription):
    """Scale K fixed channels: (B, N, H, W) -> (B, K, H, W), `y = x[index] * scale`.

    It stores K indices and K scales, and nothing of size N.
    """

    def __init__(self, channels: int, keep: int, norm: bool = False, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.width, self.weight_columns = channels, keep, keep
        self.index: Tensor
        self.register_buffer("index", torch.arange(keep, dtype=torch.int32))
        self.scale = nn.Parameter(torch.ones(keep))
        self.norm = nn.BatchNorm2d(keep) if norm else None
        self.relu = relu
        self.passes_channels = not (norm or relu)

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> ExportedPooling:
        return cls(channels, keep, pooling.norm, pooling.relu)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        """Accept the whole map (B, N, H, W), or its K selected channels (B, K, H, W)."""
        x = x if x.shape[1] == self.width else gather_channels(x, self.index)
        moments = gather_moments(moments, self.index)
        return norm_relu(SubscribedMap(x, None, self.scale, moments), self.norm, self.relu)

    def selected_mask(self) -> Tensor:
        return index_mask(self.index.long(), self.channels)

    def sample_channels(self) -> Tensor:
        return self.index


def index_mask(index: Tensor, channels: int) -> Tensor:
    """Turn indices into a mask: (K,) -> (N,) of bool."""
    return torch.zeros(channels, dtype=torch.bool, device=index.device).index_fill_(0, index, True)


def norm_relu(subscribed: SubscribedMap, norm: nn.Module | None, relu: bool) -> SubscribedMap:
    """Apply the optional BatchNorm and ReLU behind a pooling: (B, K, H, W) -> (B, K, H, W), with the scale applied."""
    if norm is None and not relu:
        return subscribed
    y = subscribed.scaled if norm is None else norm(subscribed.scaled)
    return SubscribedMap(y.relu() if relu else y, subscribed.columns)
