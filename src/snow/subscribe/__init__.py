"""Subscriptions: which channels of a feature map a delta takes. A new one is one file and one line here."""

from snow.subscribe.channel_attention import ChannelAttention
from snow.subscribe.channel_pooling import ChannelPooling, PoolingConfig, unit_gain
from snow.subscribe.choices import FINAL, Choices
from snow.subscribe.conv1x1 import Conv1x1
from snow.subscribe.everything import Everything
from snow.subscribe.mix import Mix
from snow.subscribe.subscription import ChannelStatistics, Subscribed, Subscription

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
    "Subscribed",
    "Subscription",
    "unit_gain",
]
