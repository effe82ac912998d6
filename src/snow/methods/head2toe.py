"""Head2Toe: a linear head over features selected from all layers of the source (Evci et al., ICML 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import Method, read_options, require_channels, require_index
from snow.source import FINAL, LOGITS, Features, Source


@dataclass(frozen=True)
class Head2ToeConfig:
    """How features are pooled, scored and selected.

    Attributes:
        features: upper bound of the features of one map, which is averaged over the finest square grid within it; a
            map gives at least its channels (Evci et al.: target size, 512 to 40,000).
        keep: fraction of all features that the head keeps (Evci et al.: 0.0005 to 0.2).
        penalty: factor of the group lasso while features are scored (Evci et al.: 1e-4 and 1e-5).
        search: fraction of training after which the features are selected.

    Raises:
        SnowError: a value outside its range.
    """

    features: int = 2048
    keep: float = 0.05
    penalty: float = 1e-5
    search: float = 0.3

    def __post_init__(self) -> None:
        if not self.features >= 1:
            raise SnowError(f"features must be at least 1, not {self.features}")
        if not 0 < self.keep <= 1:
            raise SnowError(f"keep is a fraction in (0, 1], not {self.keep}")
        if not 0 < self.search < 1:
            raise SnowError(f"search is a fraction of training between 0 and 1, not {self.search}")
        if not self.penalty >= 0:
            raise SnowError(f"penalty cannot be negative: {self.penalty}")


class PooledMap(NamedTuple):
    """A map averaged over a grid of cells: (B, channels, H, W) -> (B, channels * grid * grid)."""

    name: str
    channels: int
    grid: int

    @property
    def size(self) -> int:
        return self.channels * self.grid**2


class Head2Toe(Method):
    """Select K features of all maps, and classify them linearly: features (B, F) -> (B, K) -> (B, C).

    The F features are the pooled maps of all taps, the final features and the source's logits, each group scaled to
    unit length per picture. First a linear head over all features is trained under group lasso:

        loss + penalty * sum over features of ||weights of the feature||_2

    The K features with the longest weights are selected, and the head trains on over these. In eval mode the current
    best K are used from the start. Two things differ from Evci et al.: a group keeps its scale after the selection, so
    that a map with one feature left says more than its sign, and the head over the selected features starts with their
    current weights. Features of unit length need large weights, so the learning rate is ten times the recipe's.

    Args:
        maps: in the order of the features.
        kept: K.
        exported: build the form used for saving and inference, with weights of the K selected features only.
    """

    name: ClassVar[str] = "head2toe"
    config_class: ClassVar[type | None] = Head2ToeConfig
    uses_pictures: ClassVar[bool] = False
    lr_scale = 10.0

    def __init__(
        self, maps: Sequence[PooledMap], num_classes: int, kept: int, options: Head2ToeConfig, exported: bool = False
    ) -> None:
        super().__init__()
        self.maps, self.num_classes, self.kept, self.options = tuple(maps), num_classes, kept, options
        self.is_exported = exported
        self.progress = 0.0
        self.weight = nn.Parameter(torch.zeros(num_classes, kept if exported else sum(pooled.size for pooled in maps)))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.index: Tensor
        self.register_buffer("index", torch.arange(kept, dtype=torch.int32))
        self.is_chosen: Tensor
        self.register_buffer("is_chosen", torch.tensor(exported), persistent=not exported)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        options = read_options(Head2ToeConfig, config, cls.name)
        maps = []
        for tap in source.taps:
            grid = math.isqrt(int(options.features) // tap.channels)
            side = max(1, source.preprocessing.image_size // tap.stride)
            maps.append(PooledMap(tap.name, tap.channels, max(1, min(grid, side))))
        maps += [PooledMap(FINAL, source.num_features, 1), PooledMap(LOGITS, source.num_classes, 1)]
        kept = max(1, round(options.keep * sum(pooled.size for pooled in maps)))
        return cls(maps, num_classes, kept, options)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        maps = [PooledMap(*values) for values in config["maps"]]
        options = Head2ToeConfig(**config["options"])
        return cls(maps, num_classes, config["kept"], options, exported=True).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"maps": [list(pooled) for pooled in self.maps], "kept": self.kept, "options": asdict(self.options)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(pooled.name for pooled in self.maps) - {FINAL, LOGITS}

    @property
    def selected_moment_taps(self) -> frozenset[str]:
        return frozenset(pooled.name for pooled in self.maps if pooled.grid == 1) & self.taps

    def check_source(self, source: Source) -> None:
        super().check_source(source)
        channels = {tap.name: tap.channels for tap in source.taps}
        channels |= {FINAL: source.num_features, LOGITS: source.num_classes}
        for pooled in self.maps:
            require_channels(pooled.name, pooled.channels, channels.get(pooled.name, pooled.channels))

    def check_indices(self) -> None:
        require_index("the features", self.index, sum(pooled.size for pooled in self.maps))

    def forward(self, features: Features) -> Tensor:
        x = torch.cat([_pool(pooled, features) for pooled in self.maps], 1)
        if self.training and self._is_searching:
            return nn.functional.linear(x, self.weight, self.bias)
        index = self.index if self.is_exported or self.training else self.topk_indices()
        weight = self.weight if self.is_exported else self.weight.index_select(1, index)
        return nn.functional.linear(x.index_select(1, index), weight, self.bias)

    def penalty(self) -> Tensor | None:
        """Compute the group lasso while features are scored: the sum of the lengths of the features' weights."""
        return self.options.penalty * torch.linalg.vector_norm(self.weight, dim=0).sum() if self._is_searching else None

    def set_progress(self, fraction: float) -> None:
        if not self.is_exported and self._is_searching and fraction >= self.options.search:
            self.index.copy_(self.topk_indices())
            self.is_chosen.fill_(True)
        self.progress = fraction

    @torch.no_grad()
    def topk_indices(self) -> Tensor:
        """Return the selected features, or the current best before the selection: (K,) ascending."""
        best = torch.linalg.vector_norm(self.weight, dim=0).topk(self.kept).indices.sort().values
        return torch.where(self.is_chosen, self.index, best.to(self.index.dtype))

    @torch.no_grad()
    def export_form(self) -> Self:
        if self.is_exported:
            return self.eval()
        selected = self.topk_indices()
        used, index, first, dropped = [], [], 0, 0
        for pooled in self.maps:
            inside = selected[(selected >= first) & (selected < first + pooled.size)]
            if len(inside):
                used.append(pooled)
                index.append(inside - dropped)
            else:
                dropped += pooled.size
            first += pooled.size
        exported = type(self)(used, self.num_classes, self.kept, self.options, exported=True).to(self.weight.device)
        exported.weight.copy_(self.weight.index_select(1, selected))
        exported.bias.copy_(self.bias)
        exported.index.copy_(torch.cat(index))
        return exported.eval()

    @property
    def _is_searching(self) -> bool:
        return not self.is_exported and self.progress < self.options.search


def _pool(pooled: PooledMap, features: Features) -> Tensor:
    """Pool one map to features of unit length: (B, size)."""
    if pooled.name in (FINAL, LOGITS):
        x = features.final if pooled.name == FINAL else features.logits
    elif pooled.grid == 1 and pooled.name in features.moments:
        x = features.moments[pooled.name][:, 0]
    else:
        x = nn.functional.adaptive_avg_pool2d(features.maps[pooled.name].float(), pooled.grid).flatten(1)
    return nn.functional.normalize(x.float(), dim=1)
