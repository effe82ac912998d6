"""Partial fine-tuning: a copy of the source's last stages behind a shared map (Yosinski et al., 2014; He et al., 2022).

The source runs up to that map once for all tasks, and each task runs its own copy of the rest. The last stage of an
EfficientNet-Lite0 has 37 % of its multiplications and 58 % of its parameters, that of a ResNet-50 20 and 59 %.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.chains import Chain, find_chains, select
from snow.methods.method import read_options
from snow.methods.pruning import PICTURES, prune
from snow.methods.source_copy import SourceCopy, require_maps, require_statistics
from snow.methods.trunk import cut, last_map, maps_around
from snow.source import Features, Source
from snow.source.dry_run import noise

TOLERANCE = 1e-4
"""Largest accepted error of an untrained copy, relative to its largest value: above rounding errors."""


@dataclass(frozen=True)
class PartialFineTuningConfig:
    """What is the task's own, and how it is trained.

    Attributes:
        stages: how many of the source's resolutions, from the coarsest, are copied for the task.
        keep: share of the channels inside the copy's blocks that it keeps, see `snow.methods.pruning`.
        copy_rate: learning rate of the copy relative to that of the new head.
        statistics: which statistics BatchNorm in the copy uses, "task" or "source"; see `SourceCopy`.

    Raises:
        SnowError: a number of stages below one, a ratio outside (0, 1], unknown statistics.
    """

    stages: int = 1
    keep: float = 1.0
    copy_rate: float = 0.3
    statistics: str = "task"

    def __post_init__(self) -> None:
        if not isinstance(self.stages, int) or self.stages < 1:
            raise SnowError(f"stages is a whole number of at least 1, not {self.stages!r}")
        for name in ("copy_rate", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise SnowError(f"{name} is a ratio in (0, 1], not {getattr(self, name)}")
        require_statistics(self.statistics)


class PartialFineTuning(SourceCopy):
    """Train a copy of the last stages and a new head: map (B, N, H, W) -> (B, C).

    The map in front of them, and all that the source computes for it, is shared by the tasks of a hub.
    """

    name: ClassVar[str] = "partial"
    config_class: ClassVar[type | None] = PartialFineTuningConfig
    uses_source: ClassVar[bool] = True
    uses_pictures: ClassVar[bool] = False

    def __init__(self, source: Source, num_classes: int, options: PartialFineTuningConfig, name: str) -> None:
        super().__init__(source, num_classes, options.statistics)
        self.options, self.map = options, name
        self.chains: list[Chain] = []
        self._whole: list[Self] = []
        """The copy before it was pruned, until `calibrate` has chosen its channels. In a list, it is no part of it."""
        cut(self.cnn.eval(), name, source.preprocessing.image_size)
        self.train()

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: impossible options, a source of tokens, or one with too few or entangled stages.

        With `keep`, also where the copy has no channels that can be left out.
        """
        require_maps(source, cls.name)
        options = read_options(PartialFineTuningConfig, config, cls.name)
        names = _maps_before(source, options.stages)
        size, device = source.preprocessing.image_size, next(source.buffers()).device
        features = source(noise(size, device), names)
        for name in names:
            method = cls(source, num_classes, options, name)
            if method._agrees(features):
                if options.keep < 1:
                    method._prune(features.maps[name])
                return method
        raise SnowError(
            f"{source.name} cannot be cut behind {names[0]}, because what follows reads more than this map or changes "
            "it: try another number of stages"
        )

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        options = read_options(PartialFineTuningConfig, config["options"], cls.name)
        method = cls(source, num_classes, options, config["map"])
        method.chains = [Chain.from_list(values) for values in config.get("chains", ())]
        for chain in method.chains:
            select(method, chain, torch.arange(chain.kept))
        return method.eval()

    @property
    def config(self) -> dict[str, Any]:
        chains = {"chains": [chain.to_list() for chain in self.chains]} if self.chains else {}
        return {"map": self.map, "options": asdict(self.options), **chains}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset({self.map})

    def forward(self, features: Features) -> Tensor:
        return self._answer(features.maps[self.map])

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        for _ in self.choosing(batches) if self._whole else ():
            if not self._whole:
                break

    def choosing(self, batches: Iterable[tuple[Features, Tensor]]) -> Iterator[tuple[Features, Tensor]]:
        """Pass batches on; a pruned copy chooses its channels, once, by the maps of the first `PICTURES` pictures."""
        maps: list[Tensor] = []
        for features, labels in batches:
            if self._whole:
                maps.append(features.maps[self.map])
                if sum(map(len, maps)) >= PICTURES:
                    self._choose_channels(torch.cat(maps)[:PICTURES])
            yield features, labels
        if self._whole and maps:
            self._choose_channels(torch.cat(maps))

    def parameter_lr_scale(self, name: str) -> float:
        return self.options.copy_rate if name.startswith("cnn.") else 1.0

    def _answer(self, x: Tensor) -> Tensor:
        return self.classifier(self.final_features(x))

    @torch.no_grad()
    def _prune(self, x: Tensor) -> None:
        """Keep some channels of the copy, at first those with the largest weights. `x`: any maps."""
        self.eval()
        self._whole.append(copy.deepcopy(self))
        weight = self.classifier.weight
        weight.copy_(torch.arange(1.0, weight.numel() + 1).sin().view_as(weight))  # of zeros nothing could be told
        self.chains = find_chains(self, self.options.keep, lambda: self._answer(x))
        nn.init.zeros_(weight)
        if not self.chains:
            raise SnowError(f"keep={self.options.keep:g}: behind {self.map} there are no channels to leave out")
        prune(self, self.chains)
        self.train()

    @torch.no_grad()
    def _choose_channels(self, maps: Tensor) -> None:
        """Choose the channels that are kept by what they say of some pictures: maps (B, N, H, W)."""
        whole = self._whole.pop().to(maps.device).eval()
        prune(whole, self.chains, lambda: whole._answer(maps))
        self.load_state_dict(whole.state_dict())

    @torch.no_grad()
    def _agrees(self, features: Features) -> bool:
        """Whether the untrained copy makes the source's final features of the map, and leaves the map as it is."""
        x, expected = features.maps[self.map], features.final
        before = x.clone()
        try:
            final = self.eval().final_features(x)
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):
            return False
        self.train()
        if x.is_meta:  # counts alone are asked for
            return final.shape == expected.shape
        if final.shape != expected.shape or not torch.equal(x, before):
            return False
        return bool((final - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _maps_before(source: Source, stages: int) -> list[str]:
    """Name maps in front of the source's coarsest `stages` strides, of which the first that can be cut behind is taken.

    Raises:
        SnowError: the source has no finer map.
    """
    strides = sorted({tap.stride for tap in source.taps})
    own = strides[-stages:]
    first = next(index for index, tap in enumerate(source.taps) if tap.stride in own)
    if first == 0:
        raise SnowError(f"{source.name} has maps of {len(strides)} stages: method partial copies fewer, not {stages}")
    last, blocks = source.taps[first - 1], source.taps[first:]
    name, _, _ = last_map(source, last, blocks)
    return [name, *(other for other in maps_around(source, last, blocks) if other != name)]
