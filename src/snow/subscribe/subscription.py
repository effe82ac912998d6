"""What a delta takes from one feature map of the source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from snow.subscribe.statistics import ChannelStatistics

if TYPE_CHECKING:
    from snow.subscribe.pooling_config import PoolingConfig


class Subscribed(NamedTuple):
    """What a subscription hands to the layer behind it.

    Attributes:
        features: (B, width, H, W), before they are scaled.
        columns: (width,), which weight columns of the layer behind meet these channels; None: all, in order.
        scale: (width,), by what each channel is to be multiplied; None: it is as it should be. The layer behind
            multiplies its weights by it, which are few, and spares the map, which is large, one pass and two back.
    """

    features: Tensor
    columns: Tensor | None
    scale: Tensor | None = None

    @property
    def scaled(self) -> Tensor:
        """(B, width, H, W)."""
        return self.features if self.scale is None else self.features * self.scale.to(self.features).view(-1, 1, 1)


class Subscription(nn.Module, ABC):
    """Takes `width` channels out of a map of `channels`; the layer behind it has `weight_columns`.

    Each subclass sets all three. `weight_columns` equals `width` unless the choice of channels can still change and
    every source channel has a weight column of its own.
    """

    channels: int
    width: int
    weight_columns: int

    @classmethod
    @abstractmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        """A fresh one for a map of `channels`, of which `keep` are wanted; `pooling` is channel pooling's alone."""

    @classmethod
    def create_exported(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        """The form that `export_form` gives, to load what was saved into."""
        return cls.create(channels, keep, pooling)

    @abstractmethod
    def forward(self, x: Tensor) -> Subscribed:
        """`x`: (B, channels, H, W)."""

    def calibrate(self, statistics: ChannelStatistics) -> None:
        """Told once, before training, what is known of each channel. Does nothing unless overridden."""

    def set_progress(self, fraction: float) -> None:
        """Told how much of training is over, 0..1. Does nothing unless overridden."""

    def channel_scale(self) -> Tensor | None:
        """(N,), what each channel is multiplied with now; None, unless its slot is that of a channel as it is."""
        return None

    def selected_mask(self) -> Tensor | None:
        """(channels,) of bool: which channels it would take if it answered now; None if it makes no choice."""
        return None

    def freeze_selection(self) -> tuple[Subscription, Tensor | None]:
        """The form that learns on with the choice that it has now, and the columns that the layer behind it keeps."""
        return self, None

    def sample_channels(self) -> Tensor | None:
        """(width,), ascending: the channels of a map that its next `forward` looks at, drawn now if there is noise in
        its choice; None: all.

        A map of these channels alone, in this order, may then stand in the place of the whole one.
        """
        return None

    def export_form(self) -> tuple[Subscription, Tensor | None]:
        """The form that is saved and answers, and the weight columns that the layer behind it keeps (None: all)."""
        return self, None
