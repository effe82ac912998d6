"""Head2Toe: a linear head over features chosen from all layers of the source (Evci et al., ICML 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import Method, read_options
from snow.source import FINAL, LOGITS, Features, Source


@dataclass(frozen=True)
class Head2ToeConfig:
    """What is scored and what is kept.

    Attributes:
        features: of one map at most, unless it has more channels: it is averaged over the finest square grid that
            gives no more (paper: target size, 512 to 40,000).
        keep: fraction of all features that the head keeps (paper: 0.0005 to 0.2).
        penalty: factor of the group lasso while features are scored (paper: 1e-4 and 1e-5).
        search: fraction of training after which the choice is made.

    Raises:
        SnowError: a value outside its range.
    """

    features: int = 2048
    keep: float = 0.05
    penalty: float = 1e-5
    search: float = 0.3

    def __post_init__(self) -> None:
        if not self.features >= 1:
            raise SnowError(f"features is at least 1, not {self.features}")
        if not 0 < self.keep <= 1:
            raise SnowError(f"keep is a fraction in (0, 1], not {self.keep}")
        if not 0 < self.search < 1:
            raise SnowError(f"search is a fraction of training between 0 and 1, not {self.search}")
        if not self.penalty >= 0:
            raise SnowError(f"penalty cannot be negative: {self.penalty}")


class PooledMap(NamedTuple):
    """A map of the source averaged over a grid of `grid` × `grid` cells: `channels * grid**2` features."""

    name: str
    channels: int
    grid: int

    @property
    def size(self) -> int:
        return self.channels * self.grid**2


class Head2Toe(Method):
    """Scores all features by a linear head under group lasso, keeps the best, and goes on with a head over those.

    The features are the pooled maps of all taps, the final features and the source's logits, each of these scaled to
    unit length. The score of a feature is the length of its weights; in eval mode only the best take part from the
    start. Two things are not as in the paper: lengths stay those of whole maps after the choice, so that a map of which
    one feature is left still tells more than its sign, and the head over the chosen features starts with the weights
    that they have by then. Features of unit length want large weights: the rate is ten times the recipe's, which is
    the 0.01 of the paper by default.

    Args:
        maps: in the order of the features.
        kept: K, how many features are chosen.
        served: the form that answers and is saved: weights of the K chosen features alone.
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
        self.weight = nn.Parameter(torch.zeros(num_classes, kept if exported else sum(each.size for each in maps)))
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
        kept = max(1, round(options.keep * sum(each.size for each in maps)))
        return cls(maps, num_classes, kept, options)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        maps = [PooledMap(*each) for each in config["maps"]]
        options = Head2ToeConfig(**config["options"])
        return cls(maps, num_classes, config["kept"], options, exported=True).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"maps": [list(each) for each in self.maps], "kept": self.kept, "options": asdict(self.options)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(each.name for each in self.maps) - {FINAL, LOGITS}

    def forward(self, features: Features) -> Tensor:
        x = torch.cat([_pool(each, features) for each in self.maps], 1)
        if self.training and self._is_searching:
            return nn.functional.linear(x, self.weight, self.bias)
        index = self.index if self.is_exported or self.training else self.topk_indices()
        weight = self.weight if self.is_exported else self.weight.index_select(1, index)
        return nn.functional.linear(x.index_select(1, index), weight, self.bias)

    def penalty(self) -> Tensor | None:
        """The group lasso, while features are scored: the length of each feature's weights, summed."""
        return self.options.penalty * torch.linalg.vector_norm(self.weight, dim=0).sum() if self._is_searching else None

    def set_progress(self, fraction: float) -> None:
        if not self.is_exported and self._is_searching and fraction >= self.options.search:
            self.index.copy_(self.topk_indices())
            self.is_chosen.fill_(True)
        self.progress = fraction

    @torch.no_grad()
    def topk_indices(self) -> Tensor:
        """(K,) ascending: the features that are chosen, or would be if the choice were made now."""
        best = torch.linalg.vector_norm(self.weight, dim=0).topk(self.kept).indices.sort().values
        return torch.where(self.is_chosen, self.index, best.to(self.index.dtype))

    @torch.no_grad()
    def export_form(self) -> Self:
        if self.is_exported:
            return self.eval()
        chosen = self.topk_indices()
        used, index, first, shift = [], [], 0, 0
        for each in self.maps:
            inside = chosen[(chosen >= first) & (chosen < first + each.size)]
            if len(inside):
                used.append(each)
                index.append(inside - shift)
            else:
                shift += each.size
            first += each.size
        exported = type(self)(used, self.num_classes, self.kept, self.options, exported=True).to(self.weight.device)
        exported.weight.copy_(self.weight.index_select(1, chosen))
        exported.bias.copy_(self.bias)
        exported.index.copy_(torch.cat(index))
        return exported.eval()

    @property
    def _is_searching(self) -> bool:
        return not self.is_exported and self.progress < self.options.search


def _pool(pooled: PooledMap, features: Features) -> Tensor:
    """(B, size), the features that one map gives, of unit length for each picture."""
    if pooled.name in (FINAL, LOGITS):
        x = features.final if pooled.name == FINAL else features.logits
    else:
        x = nn.functional.adaptive_avg_pool2d(features.maps[pooled.name].float(), pooled.grid).flatten(1)
    return nn.functional.normalize(x.float(), dim=1)
