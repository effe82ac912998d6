"""What a family of CNNs gives a delta: a stem, blocks, and their shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from snow.delta.plan import Level
from snow.subscribe import Subscribed


class BlockShape(NamedTuple):
    """The channels that a source's block puts out, those inside it, and the side of its spatial kernel."""

    out: int
    hidden: int
    kernel: int


class Block(nn.Module, ABC):
    """One level's network: takes the delta's own map and what is subscribed to, gives the next own map."""

    @abstractmethod
    def forward(self, own: Tensor, subscribed: Subscribed) -> Tensor:
        """`own`: (B, own, H, W). Returns (B, out, H/stride, W/stride)."""


class Family(ABC):
    """A scaled-down likeness of one kind of source. A new family is one file and one line in `FAMILIES`."""

    @staticmethod
    @abstractmethod
    def shape(block: nn.Module, channels: int) -> BlockShape | None:
        """The shape of a source's `block` whose tap has `channels`; None: the block is not of this family."""

    @staticmethod
    @abstractmethod
    def stem(out: int, stride: int) -> nn.Module:
        """(B, 3, S, S) -> (B, out, S/stride, S/stride)."""

    @staticmethod
    @abstractmethod
    def block(level: Level, weight_columns: int, width: int) -> Block:
        """The block of `level` behind a subscription with `weight_columns`, of which `width` take part at a time."""

    @staticmethod
    def head(own: int, features: int) -> tuple[nn.Module, int]:
        """What stands between the last level and the mean, and how many channels it gives; `features` are wished."""
        return nn.Identity(), own


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of `block` in the order of their definition."""
    return [part for part in block.modules() if isinstance(part, nn.Conv2d)]


def patch_stem(out: int, stride: int) -> nn.Sequential:
    """One convolution of patches that do not overlap: (B, 3, S, S) -> (B, out, S/stride, S/stride)."""
    return nn.Sequential(nn.Conv2d(3, out, stride, stride, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def downsampling_stem(out: int, stride: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """3×3 convolutions, the first from RGB, each halving the resolution until `stride` is reached."""
    layers: list[nn.Module] = []
    channels, left = 3, max(stride, 1)
    while not layers or left > 1:
        step = 2 if left > 1 else 1
        layers += [nn.Conv2d(channels, out, 3, step, 1, bias=False), nn.BatchNorm2d(out), activation()]
        channels, left = out, left // step
    return nn.Sequential(*layers)
