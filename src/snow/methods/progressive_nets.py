"""PN, progressive nets: one column per task, fed by the frozen columns before it (Rusu et al., 2016)."""

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
from snow.methods.source_copy import require_maps
from snow.source import Features, Source, Tap, global_average

STARTS = ("random", "source")


@dataclass(frozen=True)
class ProgressiveConfig:
    """How a column starts.

    Attributes:
        start: initial weights of a column, "random" (Rusu et al.) or those of the "source".

    Raises:
        SnowError: an unknown start.
    """

    start: str = "random"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise SnowError(f"no start {self.start!r} of a column: there are {', '.join(STARTS)}")


class ProgressiveNets(SequentialMethod):
    """Train a full-width column of the source's architecture: images and source maps -> (B, C).

    The columns before that of task k are the source and those of tasks 1 to k - 1. At each tap the next block gets

        h + relu(V concat_j(a_j h_j))               (equation 2 of Rusu et al.; the block's weights replace U)

    with the column's own map h, the map h_j of each column before, a learned scalar a_j and a 1×1 convolution V.

    Table 5 of the SNOW paper implies at which taps: it has 257.4 M for a ResNet-50 and five tasks. Source, heads and
    five plain columns are 25.56 + 1.20 + 5 * 23.51 = 144.29 M, which leaves 113.1 M. Adapters at every block of the
    first three stages have 3 * 256² + 4 * 512² + 6 * 1024² = 7.54 M weights per column that they read; five tasks read
    1 + 2 + 3 + 4 + 5 = 15 columns, which gives 257.3 M. With the last stage's blocks it would be 446 M, or 245 M if
    every task read the source only. So there are adapters at all taps before the last resolution.

    The columns of earlier tasks are saved too, so that replacing or removing one of these tasks changes nothing here;
    `learned_parameters` counts this task's own column.
    """

    name: ClassVar[str] = "pn"
    config_class: ClassVar[type | None] = ProgressiveConfig
    uses_final: ClassVar[bool] = False

    def __init__(self, source: Source, num_classes: int, earlier: Mapping[str, Column]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.names = tuple(earlier)
        self.earlier = frozen_copy(nn.ModuleList(earlier.values()))
        self.column = Column(source, before=1 + len(earlier))
        self.classifier = nn.Linear(source.classifier_inputs, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        require_maps(source, cls.name)
        earlier, values = cls._split_config(config)
        options = read_options(ProgressiveConfig, values, cls.name)
        columns = {name: copy.deepcopy(method.column) for name, method in earlier.items()}
        method = cls(source, num_classes, columns)
        if options.start == "random":
            method.column.cnn.apply(_reset_weights)
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
        maps = [features.maps]
        with torch.no_grad():
            for column in self.earlier:
                maps.append(column(features.images, maps)[1])
        return self.classifier(self.column(features.images, maps)[0])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.earlier.eval()
        return self

    @property
    def learned_parameters(self) -> int:
        parameters = [*self.column.parameters(), *self.classifier.parameters()]
        return sum(parameter.numel() for parameter in parameters)


class Column(nn.Module):
    """A copy of the source's CNN without classifier, with an `Adapter` per lateral tap: images -> (B, D).

    Args:
        before: number of columns before it.
    """

    def __init__(self, source: Source, before: int) -> None:
        super().__init__()
        self.cnn = source.trainable_copy()
        self.cnn.set_submodule(source.classifier, nn.Identity())
        taps = _lateral_taps(source.taps)
        self.taps = [tap.name for tap in taps]
        self.adapters = nn.ModuleList(Adapter(tap.channels, before) for tap in taps)
        self._earlier_maps: Sequence[Mapping[str, Tensor]] = ()
        self._maps: dict[str, Tensor] = {}
        for index, name in enumerate(self.taps):
            self.cnn.get_submodule(name).register_forward_hook(partial(self._add_lateral, index))

    def forward(self, images: Tensor, earlier: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute final features (B, D), and the column's own map at each tap for the columns behind it.

        Args:
            images: (B, 3, S, S), normalised.
            earlier: tap -> (B, N, H, W), for each column before.
        """
        self._earlier_maps, self._maps = earlier, {}
        try:
            final, maps = self.cnn(images), self._maps
        finally:
            self._earlier_maps, self._maps = (), {}
        if isinstance(final, tuple):  # Inception adds the logits of auxiliary heads while it trains
            final = final[0]
        return global_average(final), maps

    def _add_lateral(self, index: int, _module: nn.Module, _inputs: object, own: Tensor) -> Tensor:
        tap = self.taps[index]
        self._maps[tap] = own
        return own + self.adapters[index]([maps[tap] for maps in self._earlier_maps])


class Adapter(nn.Module):
    """Merge the maps of earlier columns: j maps (B, N, H, W) -> (B, N, H, W), `relu(V concat_j(a_j h_j))`.

    The scalars a_j start small and random.
    """

    def __init__(self, channels: int, before: int) -> None:
        super().__init__()
        self.scales = nn.Parameter(0.1 * torch.randn(before))
        self.projection = nn.Conv2d(before * channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(self.projection.weight)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        scaled = [scale.to(x.dtype) * x for scale, x in zip(self.scales, maps, strict=True)]
        return self.projection(torch.cat(scaled, 1)).relu()


def _lateral_taps(taps: Sequence[Tap]) -> list[Tap]:
    """Select the taps before the coarsest resolution; all if there is only one."""
    last = max(tap.stride for tap in taps)
    return [tap for tap in taps if tap.stride < last] or list(taps)


def _reset_weights(layer: nn.Module) -> None:
    """Reset a layer to random weights: convolutions as He et al. (2015), other layers by their own rule."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif callable(reset := getattr(layer, "reset_parameters", None)):
        reset()
