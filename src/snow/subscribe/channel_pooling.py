"""Channel pooling: one learnable scalar per source channel; the top K channels pass (paper, section 2.2, Algorithm 1).

The noisy top K is drawn in `ChannelPooling.topk_indices`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.subscribe.frozen_selection import (
    ExportedPooling,
    FrozenSelection,
    gather_channels,
    gather_moments,
    index_mask,
    norm_relu,
)
from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.statistics import ChannelStatistics, inverse_std
from snow.subscribe.subscription import Replacement, SubscribedMap, Subscription


class ChannelPooling(Subscription):
    """Select K of N channels and scale them: (B, N, H, W) -> (B, K, H, W).

    Algorithm 1, with indices in ascending order:

        training:   v = w + Normal(0, sigma2),  idx = top-K(v),  y = x[idx] * w[idx]
        inference:                              idx = top-K(w),  y = x[idx] * w[idx]

    Only the K selected scalars get a gradient. With `rescale` the scale is `w * gain`, where `gain` is 1 over the
    channel's calibrated standard deviation.

    Args:
        channels: N.
        keep: K.
        config: how the selection is learned.

    Raises:
        SnowError: K is outside 1..N.
    """

    def __init__(self, channels: int, keep: int, config: PoolingConfig | None = None) -> None:
        super().__init__()
        config = config or PoolingConfig()
        if not 1 <= keep <= channels:
            raise SnowError(f"channel pooling can keep 1 to {channels} of {channels} channels, not {keep}")
        self.config = config
        self.channels, self.width = channels, keep
        self.weight_columns = channels if config.slots == "channel" else keep
        self.weight = nn.Parameter(torch.ones(channels))
        if config.init == "normal":
            nn.init.normal_(self.weight, 1.0, config.spread)
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(channels))
        self.norm = nn.BatchNorm2d(keep) if config.norm else None
        self.passes_channels = not (config.norm or config.relu)
        self.noise = config.sigma2**0.5
        """Current standard deviation of the noise."""
        self._drawn: Tensor | None = None

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        return cls(channels, keep, pooling)

    @classmethod
    def create_exported(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        return ExportedPooling.create(channels, keep, pooling)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        """Select channels of the whole map (B, N, H, W), or use the (B, K, H, W) drawn by `sample_channels`."""
        index, self._drawn = self._drawn, None
        if x.shape[1] == self.channels:
            index = self.topk_indices()
            x = gather_channels(x, index)
        assert index is not None, "a map of K channels needs a call of sample_channels before it"
        columns, moments = index if self.config.slots == "channel" else None, gather_moments(moments, index)
        return norm_relu(SubscribedMap(x, columns, self._scales()[index], moments), self.norm, self.config.relu)

    @torch.no_grad()
    def topk_indices(self) -> Tensor:
        """Draw the selection: (K,) ascending. In training mode with noise every call draws anew."""
        scores = self.weight
        if self.training and self.noise:
            scores = scores + self.noise * torch.randn_like(scores)
        return scores.topk(self.width).indices.sort().values

    def sample_channels(self) -> Tensor:
        """Draw the selection of the next `forward` ahead of it, so that only its K channels need to be passed in."""
        self._drawn = self.topk_indices()
        return self._drawn

    @torch.no_grad()
    def selected_mask(self) -> Tensor:
        return index_mask(self.weight.topk(self.width).indices, self.channels)

    @torch.no_grad()
    def calibrate(self, statistics: ChannelStatistics) -> None:
        if self.config.init == "score":
            # normal quantiles in the order of the scores: distributed as init="normal", ranked by the data
            rank = statistics.score.argsort().argsort().to(self.weight)
            quantile = torch.special.ndtri((rank + 0.5) / self.channels)
            self.weight.copy_(1 + self.config.spread * quantile)
        if self.config.rescale:
            self.gain.copy_(inverse_std(statistics.std))

    def set_progress(self, fraction: float) -> None:
        settle = self.config.settle
        remaining = max(0.0, 1 - fraction / settle) if settle else 1.0
        self.noise = remaining * self.config.sigma2**0.5

    def channel_scale(self) -> Tensor | None:
        return self._scales().detach() if self.config.slots == "channel" else None

    @torch.no_grad()
    def freeze_selection(self) -> Replacement:
        index = self.weight.topk(self.width).indices.sort().values
        frozen = FrozenSelection(self.channels, index, self.config.norm, self.config.relu)
        frozen.weight.data = self.weight.detach()[index]
        frozen.gain.copy_(self.gain[index])
        return self._replaced_by(frozen, index)

    @torch.no_grad()
    def export_form(self) -> Replacement:
        index = self.eval().topk_indices()
        exported = ExportedPooling(self.channels, self.width, self.config.norm, self.config.relu)
        exported.index.copy_(index)
        exported.scale.data = self._scales().detach()[index]
        return self._replaced_by(exported, index)

    def _replaced_by(self, form: FrozenSelection | ExportedPooling, index: Tensor) -> Replacement:
        if self.norm is not None and form.norm is not None:
            form.norm.load_state_dict(self.norm.state_dict())
        return Replacement(form, index if self.config.slots == "channel" else None)

    def _scales(self) -> Tensor:
        """Scale of each channel: (N,)."""
        return self.weight * self.gain
