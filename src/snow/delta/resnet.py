"""Deltas for ResNets: bottleneck and basic blocks (He et al., 2016).

Every block has a projection shortcut, because its input `concat(own, subscribed)` has more channels than its output.
The parameter counts of the paper's Tables 5 and 6 imply it.
"""

from __future__ import annotations

from torch import Tensor, nn

from snow.delta.family import Block, BlockShape, Family, convolutions
from snow.delta.plan import Level
from snow.subscribe import FusionConv, SubscribedMap


class Bottleneck(Family):
    """ResNet-50 and deeper, ResNeXt, Wide ResNet, RegNetX: 1×1 to a narrow width, 3×3, 1×1 back."""

    @staticmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        convs = convolutions(block)[:3]
        if [conv.kernel_size for conv in convs] != [(1, 1), (3, 3), (1, 1)] or convs[2].out_channels != channels:
            return None
        return BlockShape(channels, convs[1].out_channels, 3)

    @staticmethod
    def stem(out: int, stride: int) -> nn.Module:
        return _stem(out, stride)

    @staticmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        return _BottleneckBlock(level, weight_columns, width)


class Basic(Family):
    """ResNet-18 and 34: two 3×3 convolutions."""

    @staticmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        convs = convolutions(block)[:2]
        if [conv.kernel_size for conv in convs] != [(3, 3), (3, 3)] or convs[1].out_channels != channels:
            return None
        return BlockShape(channels, channels, 3)

    @staticmethod
    def stem(out: int, stride: int) -> nn.Module:
        return _stem(out, stride)

    @staticmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        return _BasicBlock(level, weight_columns, width)


def _stem(out: int, stride: int) -> nn.Module:
    """7×7 convolution and max-pooling (He et al., 2016) to stride 4, then strided 3×3 convolutions to coarser ones."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, out, 7, min(stride, 2), 3, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]
    if stride >= 4:
        layers.append(nn.MaxPool2d(3, 2, 1))
    remaining = stride // 4
    while remaining > 1:
        layers += [nn.Conv2d(out, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        remaining //= 2
    return nn.Sequential(*layers)


class _BottleneckBlock(Block):
    """`relu(conv3(relu(conv2(relu(conv1(h, x))))) + shortcut(h, x))`, BatchNorm behind each; h own, x subscribed."""

    def __init__(self, level: Level, weight_columns: int, width: int) -> None:
        super().__init__()
        hidden, out = level.hidden, level.out
        self.conv1 = FusionConv(level.own, weight_columns, width, hidden)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, level.kernel, level.stride, level.kernel // 2, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out)
        self.shortcut = FusionConv(level.own, weight_columns, width, out, stride=level.stride)
        self.shortcut_norm = nn.BatchNorm2d(out)

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        y = self.norm1(self.conv1(own, subscribed)).relu_()
        y = self.norm2(self.conv2(y)).relu_()
        y = self.norm3(self.conv3(y))
        return (y + self.shortcut_norm(self.shortcut(own, subscribed))).relu_()


class _BasicBlock(Block):
    """`relu(conv2(relu(conv1(h, x))) + shortcut(h, x))`, BatchNorm behind each; h own map, x subscribed map."""

    def __init__(self, level: Level, weight_columns: int, width: int) -> None:
        super().__init__()
        out = level.out
        self.conv1 = FusionConv(level.own, weight_columns, width, out, level.kernel, level.stride)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, level.kernel, 1, level.kernel // 2, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = FusionConv(level.own, weight_columns, width, out, stride=level.stride)
        self.shortcut_norm = nn.BatchNorm2d(out)

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        y = self.norm1(self.conv1(own, subscribed)).relu_()
        y = self.norm2(self.conv2(y))
        return (y + self.shortcut_norm(self.shortcut(own, subscribed))).relu_()
