"""Subscriptions: which channels of a feature map a delta takes. A new one is one file and one line here."""

from snow.subscribe.channel_pooling import ChannelPooling
from snow.subscribe.frozen_selection import gather_channels
from snow.subscribe.fusion_conv import ColumnLayer, FusionConv
from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.rivals import AllChannels, ChannelAttention, Conv1x1
from snow.subscribe.selection_history import SelectionHistory
from snow.subscribe.statistics import ChannelStatistics, inverse_std, moments, scaled_moments
from snow.subscribe.subscription import Subscribed, Subscription

SUBSCRIPTIONS: dict[str, type[Subscription]] = {
    "channel_pooling": ChannelPooling,
    "conv1x1": Conv1x1,
    "channel_attention": ChannelAttention,
    "all": AllChannels,
}

__all__ = [
    "SUBSCRIPTIONS",
    "ChannelAttention",
    "ChannelPooling",
    "ChannelStatistics",
    "SelectionHistory",
    "Conv1x1",
    "AllChannels",
    "FusionConv",
    "PoolingConfig",
    "ColumnLayer",
    "Subscribed",
    "Subscription",
    "moments",
    "scaled_moments",
    "gather_channels",
    "inverse_std",
]
