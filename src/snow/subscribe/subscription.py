"""The base class of subscriptions, and the map that one hands to the layer behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from snow.subscribe.statistics import ChannelStatistics

if TYPE_CHECKING:
    from snow.subscribe.pooling_config import PoolingConfig


class SubscribedMap(NamedTuple):
    """The output of a subscription.

    Attributes:
        features: (B, K, H, W), not yet scaled.
        columns: (K,), which weight columns of the layer behind meet these channels; None: all, in order.
        scale: (K,), factor of each channel; None: 1. The layer behind multiplies its few weights by it, which saves
            one pass forward and two backward over the large map.
        moments: (B, 2, K), mean and standard deviation over space of `features`, if they are known already.
    """

    features: Tensor
    columns: Tensor | None
    scale: Tensor | None = None
    moments: Tensor | None = None

    @property
    def scaled(self) -> Tensor:
        """Apply the scale: (B, K, H, W)."""
        return self.features if self.scale is None else self.features * self.scale.to(self.features).view(-1, 1, 1)


class Replacement(NamedTuple):
    """A subscription with a fixed selection, to put in place of the one that learned it.

    Attributes:
        subscription: the new module.
        columns: (K,), the weight columns that the layer behind keeps; None: all.
    """

    subscription: Subscription
    columns: Tensor | None


class Subscription(nn.Module, ABC):
    """Read channels of a source map: (B, N, H, W) -> (B, K, H, W). Each subclass sets the attributes.

    Attributes:
        channels: N.
        width: K.
        weight_columns: weight columns of the layer behind: N while the selection can change and each source channel
            has a column of its own, otherwise K.
        passes_channels: whether the output is channels of the map as they are, but for the scale.
    """

    channels: int
    width: int
    weight_columns: int
    passes_channels: bool = False

    @classmethod
    @abstractmethod
    def create(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        """Make a subscription that is ready to train.

        Args:
            channels: N.
            keep: K.
            pooling: options of channel pooling; other subscriptions ignore them.
        """

    @classmethod
    def create_exported(cls, channels: int, keep: int, pooling: PoolingConfig) -> Subscription:
        """Make an empty `export_form`, to load saved tensors into."""
        return cls.create(channels, keep, pooling)

    @abstractmethod
    def forward(self, x: Tensor, moments: Tensor | None = None) -> SubscribedMap:
        """Read channels of `x`: (B, N, H, W).

        Args:
            moments: (B, 2, N), of all channels, or of the selected ones alone (B, 2, K); passed on if
                `passes_channels`.
        """

    def calibrate(self, statistics: ChannelStatistics) -> None:
        """Adapt to the statistics of the N channels, once before training. Does nothing by default."""

    def set_progress(self, fraction: float) -> None:
        """Follow the schedule of training, with 0..1 of it done. Does nothing by default."""

    def channel_scale(self) -> Tensor | None:
        """Return the current factor of each source channel: (N,); None if weight columns do not belong to channels."""
        return None

    def selected_mask(self) -> Tensor | None:
        """Return the channels that would pass in eval mode: (N,) of bool; None if there is no selection."""
        return None

    def freeze_selection(self) -> Replacement:
        """Fix the current selection; the replacement trains on."""
        return Replacement(self, None)

    def sample_channels(self) -> Tensor | None:
        """Return the channels that the next `forward` reads: (K,) ascending; None: all. Noise is drawn now.

        A map of these channels only, in this order, may then be passed to `forward` instead of the whole one.
        """
        return None

    def export_form(self) -> Replacement:
        """Fix the current selection; the replacement is saved, and only answers."""
        return Replacement(self, None)
