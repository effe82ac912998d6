"""Subscriptions: which channels of a source map a delta reads. A new one is one file and one line in `SUBSCRIPTIONS`.

Shape letters in this room:
    B     pictures in a batch
    N     channels of the source's map
    K     channels that pass: K of N for channel pooling, N for the subscriptions without a selection
    C     classes
    H, W  height and width of the map
    n     labelled pictures that calibrate a subscription before training
"""

from snow.subscribe.channel_pooling import ChannelPooling
from snow.subscribe.frozen_selection import gather_channels
from snow.subscribe.fusion_conv import ColumnLayer, FusionConv
from snow.subscribe.pooling_config import PoolingConfig
from snow.subscribe.rivals import AllChannels, ChannelAttention, Conv1x1
from snow.subscribe.selection_history import SelectionHistory
from snow.subscribe.statistics import ChannelStatistics, inverse_std, moments, scaled_moments
from snow.subscribe.subscription import Replacement, SubscribedMap, Subscription

SUBSCRIPTIONS: dict[str, type[Subscription]] = {
    "channel_pooling": ChannelPooling,
    "conv1x1": Conv1x1,
    "channel_attention": ChannelAttention,
    "all": AllChannels,
}

__all__ = [
    "SUBSCRIPTIONS",
    "AllChannels",
    "ChannelAttention",
    "ChannelPooling",
    "ChannelStatistics",
    "ColumnLayer",
    "Conv1x1",
    "FusionConv",
    "PoolingConfig",
    "Replacement",
    "SelectionHistory",
    "SubscribedMap",
    "Subscription",
    "gather_channels",
    "inverse_std",
    "moments",
    "scaled_moments",
]
