"""The base class of delta families, and the stems that several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from snow.delta.plan import Level
from snow.subscribe import SubscribedMap


class BlockShape(NamedTuple):
    """The shape of a source's block.

    Attributes:
        out: channels of its output.
        hidden: channels inside it.
        kernel: side of its spatial convolution.
    """

    out: int
    hidden: int
    kernel: int


class Block(nn.Module, ABC):
    """Process one level: (B, own, H, W) and a subscribed map (B, K, H, W) -> (B, out, H/stride, W/stride)."""

    @abstractmethod
    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        """Compute the delta's next map from its current one and the subscribed one."""


class Family(ABC):
    """Makes the parts of a delta that resembles one kind of CNN. A new one is one file and one line in `FAMILIES`."""

    @staticmethod
    @abstractmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        """Read the shape of a source's `block` whose tap has `channels`; None if it is not of this family."""

    @staticmethod
    @abstractmethod
    def stem(out: int, stride: int) -> nn.Module:
        """Make the stem: (B, 3, S, S) -> (B, out, S/stride, S/stride)."""

    @staticmethod
    @abstractmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        """Make the block of `level` behind a subscription.

        Args:
            weight_columns: weight columns for the subscription.
            width: how many of them take part at a time.
        """

    @staticmethod
    def head(own: int, features: int) -> tuple[nn.Module, int]:
        """Make the layer between the last level and the spatial mean, and say how many channels it gives.

        Args:
            own: channels of the last level.
            features: channels to widen them to, for families that do; the default keeps `own`.
        """
        return nn.Identity(), own


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions of `block` in the order of their definition."""
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)]


def patch_stem(out: int, stride: int) -> nn.Sequential:
    """Convolve patches that do not overlap: (B, 3, S, S) -> (B, out, S/stride, S/stride)."""
    return nn.Sequential(nn.Conv2d(3, out, stride, stride, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def downsampling_stem(out: int, stride: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Stack 3×3 convolutions that halve the resolution: (B, 3, S, S) -> (B, out, S/stride, S/stride)."""
    layers: list[nn.Module] = []
    channels, remaining = 3, max(stride, 1)
    while not layers or remaining > 1:
        step = 2 if remaining > 1 else 1
        layers += [nn.Conv2d(channels, out, 3, step, 1, bias=False), nn.BatchNorm2d(out), activation()]
        channels, remaining = out, remaining // step
    return nn.Sequential(*layers)
