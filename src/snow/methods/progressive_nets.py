"""PN, progressive nets: a column for each task beside the frozen ones before it (Rusu et al., 2016)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.sequential_method import SequentialMethod, frozen_copy
from snow.source import Features, Source, Tap

STARTS = ("random", "source")


@dataclass(frozen=True)
class ProgressiveConfig:
    """`start`: what a column's own weights are at first, one of `STARTS`: random in Rusu et al.

    Raises:
        SnowError: an unknown start.
    """

    start: str = "random"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise SnowError(f"no start {self.start!r} of a column: there are {', '.join(STARTS)}")


class ProgressiveNets(SequentialMethod):
    """A full-width network of the source's architecture, fed by every column before it.

    The columns before that of task k are the source and those of tasks 1 to k - 1. At each tap the next block takes
    `h + relu(V [a_j h_j]_j)`, where `h` is the column's own map, `h_j` those of the columns before, `a_j` a learned
    scalar and `V` a 1×1 convolution: equation 2 of Rusu et al., with the block's own weights in the place of the matrix
    U behind the adapter.

    At which taps is read off Table 5 of the SNOW paper: 257.4 M for a ResNet-50 and five tasks. Source, heads and five
    plain columns are 25.56 + 1.20 + 5 · 23.51 = 144.29 M, which leaves 113.1 M. Adapters at every block of the first
    three stages have 3 · 256² + 4 · 512² + 6 · 1024² = 7.54 M weights for each column that they see; five tasks see
    1 + 2 + 3 + 4 + 5 = 15, which makes 257.3 M. With the last stage's blocks as well it would be 446 M, or 245 M if
    every task saw the source alone. So there are adapters at all taps ahead of the last resolution.

    What is saved includes the columns of earlier tasks, so that replacing or removing one of those changes nothing
    here; `learned_parameters` counts this task's own.
    """

    name: ClassVar[str] = "pn"
    uses_final: ClassVar[bool] = False

    def __init__(self, source: Source, num_classes: int, earlier: Mapping[str, Column]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.names = tuple(earlier)
        self.earlier = frozen_copy(nn.ModuleList(earlier.values()))
        self.column = Column(source, before=1 + len(earlier))
        self.classifier = nn.Linear(source.num_features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        earlier, values = cls._earlier(config)
        options = read_options(ProgressiveConfig, values, cls.name)
        columns = {name: copy.deepcopy(method.column) for name, method in earlier.items()}
        method = cls(source, num_classes, columns)
        if options.start == "random":
            method.column.cnn.apply(_forget)
        return method

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        earlier = {name: Column(source, before) for before, name in enumerate(config["earlier"], start=1)}
        return cls(source, num_classes, earlier).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"earlier": list(self.names)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(self.column.taps)

    def forward(self, features: Features) -> Tensor:
        seen = [features.maps]
        with torch.no_grad():
            for column in self.earlier:
                seen.append(column(features.images, seen)[1])
        return self.classifier(self.column(features.images, seen)[0])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.earlier.eval()
        return self

    @property
    def learned_parameters(self) -> int:
        learned = [*self.column.parameters(), *self.classifier.parameters()]
        return sum(parameter.numel() for parameter in learned)


class Column(nn.Module):
    """A copy of the source's CNN, without classifier, joined by the columns before it.

    Args:
        before: how many there are.
    """

    def __init__(self, source: Source, before: int) -> None:
        super().__init__()
        self.cnn = source.trainable_copy()
        self.cnn.set_submodule(source.classifier, nn.Identity())
        taps = _lateral_taps(source.taps)
        self.taps = [tap.name for tap in taps]
        self.adapters = nn.ModuleList(Adapter(tap.channels, before) for tap in taps)
        self._seen: Sequence[Mapping[str, Tensor]] = ()
        self._maps: dict[str, Tensor] = {}
        for index, name in enumerate(self.taps):
            self.cnn.get_submodule(name).register_forward_hook(partial(self._join, index))

    def forward(self, images: Tensor, seen: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, D), and the column's own map at each tap for the columns behind it.

        Args:
            images: (B, 3, S, S), normalised.
            seen: tap -> (B, C, H, W), of each column before.
        """
        self._seen, self._maps = seen, {}
        try:
            final, maps = self.cnn(images), self._maps
        finally:
            self._seen, self._maps = (), {}
        if isinstance(final, tuple):  # Inception adds the answers of auxiliary heads while it trains
            final = final[0]
        return final.flatten(2).mean(2) if final.ndim > 2 else final, maps

    def _join(self, index: int, _module: nn.Module, _inputs: object, own: Tensor) -> Tensor:
        tap = self.taps[index]
        self._maps[tap] = own
        return own + self.adapters[index]([maps[tap] for maps in self._seen])


class Adapter(nn.Module):
    """`relu(V [a_j h_j]_j)`: what the columns before have to say at one tap. The scalars start small and random."""

    def __init__(self, channels: int, before: int) -> None:
        super().__init__()
        self.scales = nn.Parameter(0.1 * torch.randn(before))
        self.projection = nn.Conv2d(before * channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(self.projection.weight)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`maps`: (B, channels, H, W) of each column before. Returns (B, channels, H, W)."""
        scaled = [scale.to(x.dtype) * x for scale, x in zip(self.scales, maps, strict=True)]
        return self.projection(torch.cat(scaled, 1)).relu()


def _lateral_taps(taps: Sequence[Tap]) -> list[Tap]:
    """Those ahead of the last resolution; all where there is but one."""
    last = max(tap.stride for tap in taps)
    return [tap for tap in taps if tap.stride < last] or list(taps)


def _forget(layer: nn.Module) -> None:
    """Random weights: by the rule of He et al. (2015) for convolutions, by its own for any other layer."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif callable(reset := getattr(layer, "reset_parameters", None)):
        reset()
