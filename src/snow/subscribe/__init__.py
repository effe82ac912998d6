"""Subscriptions: which channels of a feature map a delta takes. A new one is one file and one line here."""

from snow.subscribe.channel_attention import ChannelAttention
from snow.subscribe.channel_pooling import ChannelPooling, PoolingConfig
from snow.subscribe.choices import FINAL, Choices
from snow.subscribe.conv1x1 import Conv1x1
from snow.subscribe.everything import Everything
from snow.subscribe.mix import Mix
from snow.subscribe.slots import Slots
from snow.subscribe.statistics import ChannelStatistics, moments, scaled_moments, unit_gain
from snow.subscribe.subscription import Subscribed, Subscription

SUBSCRIPTIONS: dict[str, type[Subscription]] = {
    "channel_pooling": ChannelPooling,
    "conv1x1": Conv1x1,
    "channel_attention": ChannelAttention,
    "all": Everything,
}

__all__ = [
    "FINAL",
    "SUBSCRIPTIONS",
    "ChannelPooling",
    "ChannelStatistics",
    "Choices",
    "Mix",
    "PoolingConfig",
    "Slots",
    "Subscribed",
    "Subscription",
    "moments",
    "scaled_moments",
    "unit_gain",
]
