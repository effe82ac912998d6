"""Channel pooling: one learnable scalar per source channel, the top K pass (paper, section 2.2, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.subscribe.frozen_selection import ExportedPooling, FrozenSelection, _finished, _mask, gather_channels
from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.statistics import ChannelStatistics, inverse_std
from snow.subscribe.subscription import Subscribed, Subscription


class ChannelPooling(Subscription):
    """Picks K of N channels.

    While training, `v = w + Normal(0, sigma2)`, `idx = top-K(v)`, `y = x[idx] * w[idx]`; otherwise
    `idx = top-K(w)` without noise. Only the K scalars that took part get a gradient. `idx` is in ascending order.

    Args:
        channels: N.
        keep: K.

    Raises:
        SnowError: K outside 1..N.
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
        self.noise = config.sigma2**0.5
        """Standard deviation of the noise now."""
        self._drawn: Tensor | None = None

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        return cls(channels, keep, pooling)

    @classmethod
    def create_exported(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        return ExportedPooling.create(channels, keep, pooling)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or the channels that `sample_channels` drew before, alone."""
        index, self._drawn = self._drawn, None
        if x.shape[1] == self.channels:
            index = self.topk_indices()
            x = gather_channels(x, index)
        assert index is not None, "channels that were taken for one step stand for a map in another"
        taken = Subscribed(x, index if self.config.slots == "channel" else None, self._scaled()[index])
        return _finished(taken, self.norm, self.config.relu)

    @torch.no_grad()
    def topk_indices(self) -> Tensor:
        """(K,) ascending: the channels that pass now; drawn anew at each call while training with noise."""
        value = self.weight
        if self.training and self.noise:
            value = value + self.noise * torch.randn_like(value)
        return value.topk(self.width).indices.sort().values

    def sample_channels(self) -> Tensor:
        self._drawn = self.topk_indices()
        return self._drawn

    @torch.no_grad()
    def selected_mask(self) -> Tensor:
        return _mask(self.weight.topk(self.width).indices, self.channels)

    @torch.no_grad()
    def calibrate(self, statistics: ChannelStatistics) -> None:
        if self.config.init == "score":
            # normal quantiles in the order of the scores: the shape of init="normal", the order of the data
            order = statistics.score.argsort().argsort().to(self.weight)
            quantile = torch.special.ndtri((order + 0.5) / self.channels)
            self.weight.copy_(1 + self.config.spread * quantile)
        if self.config.rescale:
            self.gain.copy_(inverse_std(statistics.std))

    def set_progress(self, fraction: float) -> None:
        settle = self.config.settle
        left = max(0.0, 1 - fraction / settle) if settle else 1.0
        self.noise = left * self.config.sigma2**0.5

    def channel_scale(self) -> Tensor | None:
        return self._scaled().detach() if self.config.slots == "channel" else None

    def freeze_selection(self) -> tuple[Subscription, Tensor | None]:
        index = self.weight.detach().topk(self.width).indices.sort().values
        settled = FrozenSelection(self.channels, index, self.config.norm, self.config.relu)
        settled.weight.data = self.weight.detach()[index]
        settled.gain.copy_(self.gain[index])
        if self.norm is not None and settled.norm is not None:
            settled.norm.load_state_dict(self.norm.state_dict())
        return settled, index if self.config.slots == "channel" else None

    def export_form(self) -> tuple[Subscription, Tensor | None]:
        index = self.eval().topk_indices()
        chosen = ExportedPooling(self.channels, self.width, self.config.norm, self.config.relu)
        chosen.index.copy_(index)
        chosen.scale.data = self._scaled().detach()[index]
        if self.norm is not None and chosen.norm is not None:
            chosen.norm.load_state_dict(self.norm.state_dict())
        return chosen, index if self.config.slots == "channel" else None

    def _scaled(self) -> Tensor:
        """(N,): the learned scalars, with the calibrated gain."""
        return self.weight * self.gain
