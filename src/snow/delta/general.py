"""Deltas for any other CNN: one 3×3 convolution per level, with a 1×1 shortcut (He et al., 2016)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from snow.delta.family import Block, BlockShape, Family, downsampling_stem
from snow.delta.plan import Level
from snow.subscribe import FusionConv, SubscribedMap


class General(Family):
    """Fits every CNN: it uses only the number of channels of the source's blocks."""

    @staticmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        return BlockShape(channels, channels, 3)

    @staticmethod
    def stem(out: int, stride: int) -> nn.Module:
        return downsampling_stem(out, stride, partial(nn.ReLU, inplace=True))

    @staticmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        return _GeneralBlock(level, weight_columns, width)


class _GeneralBlock(Block):
    """`relu(bn(conv(h, x)) + bn(shortcut(h, x)))`, with own map h and subscribed map x."""

    def __init__(self, level: Level, weight_columns: int, width: int) -> None:
        super().__init__()
        self.conv = FusionConv(level.own, weight_columns, width, level.out, level.kernel, level.stride)
        self.norm = nn.BatchNorm2d(level.out)
        self.shortcut = FusionConv(level.own, weight_columns, width, level.out, stride=level.stride)
        self.shortcut_norm = nn.BatchNorm2d(level.out)

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        y = self.norm(self.conv(own, subscribed))
        return (y + self.shortcut_norm(self.shortcut(own, subscribed))).relu_()
