"""Partial fine-tuning: a copy of the source's last stages behind a shared map (Yosinski et al., 2014; He et al., 2022).

The source runs up to that map once for all tasks, and each task runs its own copy of the rest. The last stage of an
EfficientNet-Lite0 has 37 % of its multiplications and 58 % of its parameters, that of a ResNet-50 20 and 59 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.methods.method import read_options
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
        copy_rate: learning rate of the copy relative to that of the new head.
        statistics: which statistics BatchNorm in the copy uses, "task" or "source"; see `SourceCopy`.

    Raises:
        SnowError: a number of stages below one, a ratio outside (0, 1], unknown statistics.
    """

    stages: int = 1
    copy_rate: float = 0.3
    statistics: str = "task"

    def __post_init__(self) -> None:
        if not isinstance(self.stages, int) or self.stages < 1:
            raise SnowError(f"stages is a whole number of at least 1, not {self.stages!r}")
        if not 0 < self.copy_rate <= 1:
            raise SnowError(f"copy_rate is a ratio in (0, 1], not {self.copy_rate}")
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
        cut(self.cnn.eval(), name, source.preprocessing.image_size)
        self.train()

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: impossible options, a source of tokens, or one with too few or entangled stages."""
        require_maps(source, cls.name)
        options = read_options(PartialFineTuningConfig, config, cls.name)
        names = _maps_before(source, options.stages)
        size, device = source.preprocessing.image_size, next(source.buffers()).device
        features = source(noise(size, device), names)
        for name in names:
            method = cls(source, num_classes, options, name)
            if method._agrees(features):
                return method
        raise SnowError(
            f"{source.name} cannot be cut behind {names[0]}, because what follows reads more than this map or changes "
            "it: try another number of stages"
        )

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        options = read_options(PartialFineTuningConfig, config["options"], cls.name)
        return cls(source, num_classes, options, config["map"]).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"map": self.map, "options": asdict(self.options)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset({self.map})

    def forward(self, features: Features) -> Tensor:
        return self.classifier(self.final_features(features.maps[self.map]))

    def parameter_lr_scale(self, name: str) -> float:
        return self.options.copy_rate if name.startswith("cnn.") else 1.0

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
