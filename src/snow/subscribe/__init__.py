"""Subscriptions: which channels of a feature map a delta takes. A new one is one file and one line here."""

from snow.subscribe.channel_pooling import ChannelPooling
from snow.subscribe.frozen_selection import take
from snow.subscribe.fusion_conv import Mix, Slots
from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.rivals import ChannelAttention, Conv1x1, Everything
from snow.subscribe.selection_history import FINAL, Choices
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
    "ChannelAttention",
    "ChannelPooling",
    "ChannelStatistics",
    "Choices",
    "Conv1x1",
    "Everything",
    "Mix",
    "PoolingConfig",
    "Slots",
    "Subscribed",
    "Subscription",
    "moments",
    "scaled_moments",
    "take",
    "unit_gain",
]
