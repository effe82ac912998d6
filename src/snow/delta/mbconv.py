"""Deltas for MobileNets, MNASNets and EfficientNets: inverted bottlenecks (Sandler et al., 2018)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from snow.delta.family import Block, BlockShape, Family, convolutions, downsampling_stem
from snow.delta.plan import Level
from snow.subscribe import FusionConv, SubscribedMap


class MBConv(Family):
    """1×1 to a wide map, depthwise, 1×1 to a narrow map without activation; identity shortcut where shapes allow."""

    @staticmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        convs = convolutions(block)
        for conv in convs:
            if conv.groups == conv.out_channels == channels and convs[-1].out_channels < channels:
                return BlockShape(convs[-1].out_channels, channels, conv.kernel_size[0])
        return None

    @staticmethod
    def stem(out: int, stride: int) -> nn.Module:
        return downsampling_stem(out, stride, partial(nn.ReLU6, inplace=True))

    @staticmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        return _MBConvBlock(level, weight_columns, width)

    @staticmethod
    def head(own: int, features: int) -> tuple[nn.Module, int]:
        """Widen the narrow last map by a 1×1 convolution, as these networks do."""
        return nn.Sequential(
            nn.Conv2d(own, features, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU6(inplace=True)
        ), features


class _MBConvBlock(Block):
    """`bn(project(relu6(bn(depthwise(relu6(bn(expand(h, x))))))))`, with own map h and subscribed map x."""

    def __init__(self, level: Level, weight_columns: int, width: int) -> None:
        super().__init__()
        hidden, out, kernel = level.hidden, level.out, level.kernel
        self.expand = FusionConv(level.own, weight_columns, width, hidden)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, level.stride, kernel // 2, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out)
        self.residual = level.own == out and level.stride == 1

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        y = nn.functional.relu6(self.norm1(self.expand(own, subscribed)), inplace=True)
        y = nn.functional.relu6(self.norm2(self.depthwise(y)), inplace=True)
        y = self.norm3(self.project(y))
        return own + y if self.residual else y
