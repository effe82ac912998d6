"""Channel pooling: one learnable scalar per source channel, the top K pass (paper, section 2.2, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.subscribe.statistics import ChannelStatistics, unit_gain
from snow.subscribe.subscription import Subscribed, Subscription
from snow.subscribe.take import take

SLOTS = ("channel", "index")
INITS = ("score", "normal", "ones")


@dataclass(frozen=True)
class PoolingConfig:
    """How channel pooling learns its choice. The defaults learn; `PoolingConfig.literal()` is Algorithm 1 as written.

    Attributes:
        sigma2: variance of the noise at the start.
        slots: Algorithm 1 does not say how the layer behind meets a choice that changes. "index": the j-th chosen
            channel meets the j-th weight column, with which little is learned. "channel": each source channel has
            a weight column of its own and the chosen columns are gathered with the channels; after training only
            those K are kept, so what is served is the same.
        init: how `w` starts: "ones"; "normal" around 1; or "score": as "normal", in the order of the channels'
            calibrated scores.
        spread: standard deviation of `w` around 1 at the start.
        settle: the noise falls linearly to nothing at this fraction of training; 0: it stays.
        rescale: divide each channel by its calibrated standard deviation; folded into the scale when served.
        norm: BatchNorm behind the pooling; needs slots="index", because its statistics belong to slots.
        relu: ReLU behind the pooling.

    Raises:
        SnowError: an option outside its choices.
    """

    sigma2: float = 1e-3
    slots: str = "channel"
    init: str = "score"
    spread: float = 0.3
    settle: float = 0.5
    rescale: bool = True
    norm: bool = False
    relu: bool = False

    def __post_init__(self) -> None:
        if self.slots not in SLOTS or self.init not in INITS:
            raise SnowError(f"channel pooling: slots is one of {', '.join(SLOTS)}, init one of {', '.join(INITS)}")
        if self.norm and self.slots == "channel":
            raise SnowError("BatchNorm behind channel pooling needs slots='index': its statistics belong to slots")
        if self.sigma2 < 0 or self.spread < 0 or not 0 <= self.settle <= 1:
            raise SnowError("channel pooling: sigma2 and spread cannot be negative, settle is between 0 and 1")

    @classmethod
    def literal(cls, sigma2: float = 1e-3) -> PoolingConfig:
        """The paper's Algorithm 1 as written: w starts as ones, slots by index, constant noise."""
        return cls(sigma2, slots="index", init="ones", settle=0.0, rescale=False)


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
        self.slots = channels if config.slots == "channel" else keep
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
    def create_served(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        return Chosen.create(channels, keep, pooling)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or the channels that `chosen` drew before, alone."""
        index, self._drawn = self._drawn, None
        if x.shape[1] == self.channels:
            index = self.choice()
            x = take(x, index)
        assert index is not None, "channels that were taken for one step stand for a map in another"
        taken = Subscribed(x, index if self.config.slots == "channel" else None, self._scaled()[index])
        return _finished(taken, self.norm, self.config.relu)

    @torch.no_grad()
    def choice(self) -> Tensor:
        """(K,) ascending: the channels that pass now; drawn anew at each call while training with noise."""
        value = self.weight
        if self.training and self.noise:
            value = value + self.noise * torch.randn_like(value)
        return value.topk(self.width).indices.sort().values

    def chosen(self) -> Tensor:
        self._drawn = self.choice()
        return self._drawn

    @torch.no_grad()
    def taken(self) -> Tensor:
        return _mask(self.weight.topk(self.width).indices, self.channels)

    @torch.no_grad()
    def calibrate(self, statistics: ChannelStatistics) -> None:
        if self.config.init == "score":
            # normal quantiles in the order of the scores: the shape of init="normal", the order of the data
            order = statistics.score.argsort().argsort().to(self.weight)
            quantile = torch.special.ndtri((order + 0.5) / self.channels)
            self.weight.copy_(1 + self.config.spread * quantile)
        if self.config.rescale:
            self.gain.copy_(unit_gain(statistics.std))

    def set_progress(self, fraction: float) -> None:
        settle = self.config.settle
        left = max(0.0, 1 - fraction / settle) if settle else 1.0
        self.noise = left * self.config.sigma2**0.5

    def factors(self) -> Tensor | None:
        return self._scaled().detach() if self.config.slots == "channel" else None

    def settled(self) -> tuple[Subscription, Tensor | None]:
        index = self.weight.detach().topk(self.width).indices.sort().values
        settled = Settled(self.channels, index, self.config.norm, self.config.relu)
        settled.weight.data = self.weight.detach()[index]
        settled.gain.copy_(self.gain[index])
        if self.norm is not None and settled.norm is not None:
            settled.norm.load_state_dict(self.norm.state_dict())
        return settled, index if self.config.slots == "channel" else None

    def served(self) -> tuple[Subscription, Tensor | None]:
        index = self.eval().choice()
        chosen = Chosen(self.channels, self.width, self.config.norm, self.config.relu)
        chosen.index.copy_(index)
        chosen.scale.data = self._scaled().detach()[index]
        if self.norm is not None and chosen.norm is not None:
            chosen.norm.load_state_dict(self.norm.state_dict())
        return chosen, index if self.config.slots == "channel" else None

    def _scaled(self) -> Tensor:
        """(N,): the learned scalars, with the calibrated gain."""
        return self.weight * self.gain


class Settled(Subscription):
    """Channel pooling that learns on after the choice: `y = x[index] * w`, as in Algorithm 1 with `index` a constant.

    Args:
        index: (K,), ascending.
    """

    def __init__(self, channels: int, index: Tensor, norm: bool = False, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.width, self.slots = channels, len(index), len(index)
        self.index: Tensor
        self.register_buffer("index", index.clone())
        self.weight = nn.Parameter(torch.ones(self.width, device=index.device))
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(self.width, device=index.device))
        self.norm = nn.BatchNorm2d(self.width, device=index.device) if norm else None
        self.relu = relu

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Settled:
        return cls(channels, torch.arange(keep), pooling.norm, pooling.relu)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or its chosen channels alone."""
        y = x if x.shape[1] == self.width else take(x, self.index)
        return _finished(Subscribed(y, None, self.weight * self.gain), self.norm, self.relu)

    def taken(self) -> Tensor:
        return _mask(self.index, self.channels)

    def chosen(self) -> Tensor:
        return self.index

    def served(self) -> tuple[Subscription, Tensor | None]:
        chosen = Chosen(self.channels, self.width, self.norm is not None, self.relu)
        chosen.index.copy_(self.index)
        chosen.scale.data = (self.weight * self.gain).detach()
        if self.norm is not None and chosen.norm is not None:
            chosen.norm.load_state_dict(self.norm.state_dict())
        return chosen, None


class Chosen(Subscription):
    """Channel pooling once the choice is made: K indices and K scales, nothing of size N."""

    def __init__(self, channels: int, keep: int, norm: bool = False, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.width, self.slots = channels, keep, keep
        self.index: Tensor
        self.register_buffer("index", torch.arange(keep, dtype=torch.int32))
        self.scale = nn.Parameter(torch.ones(keep))
        self.norm = nn.BatchNorm2d(keep) if norm else None
        self.relu = relu

    @classmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Chosen:
        return cls(channels, keep, pooling.norm, pooling.relu)

    def forward(self, x: Tensor) -> Subscribed:
        """`x`: the whole map, or its chosen channels alone."""
        y = x if x.shape[1] == self.width else take(x, self.index)
        return _finished(Subscribed(y, None, self.scale), self.norm, self.relu)

    def taken(self) -> Tensor:
        return _mask(self.index.long(), self.channels)

    def chosen(self) -> Tensor:
        return self.index


def _mask(index: Tensor, channels: int) -> Tensor:
    return torch.zeros(channels, dtype=torch.bool, device=index.device).index_fill_(0, index, True)


def _finished(taken: Subscribed, norm: nn.Module | None, relu: bool) -> Subscribed:
    if norm is None and not relu:
        return taken
    y = taken.scaled if norm is None else norm(taken.scaled)
    return Subscribed(y.relu() if relu else y, taken.columns)
