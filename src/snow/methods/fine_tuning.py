"""FT, fine-tuning: a copy of the source, all of which is trained for one task (Dauphin et al., 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.source_copy import SourceCopy, require_statistics
from snow.source import Source


@dataclass(frozen=True)
class FineTuningConfig:
    """How the copy is trained.

    Attributes:
        copy_rate: learning rate of the copy relative to that of the new head.
        statistics: which statistics BatchNorm uses, "task" or "source"; see `SourceCopy`.

    Raises:
        SnowError: a ratio outside (0, 1], unknown statistics.
    """

    copy_rate: float = 0.3
    statistics: str = "task"

    def __post_init__(self) -> None:
        if not 0 < self.copy_rate <= 1:
            raise SnowError(f"copy_rate is a ratio in (0, 1], not {self.copy_rate}")
        require_statistics(self.statistics)


class FineTuning(SourceCopy):
    """Train every layer of the copy and a new head: images (B, 3, S, S) -> (B, C).

    The whole copy is saved: 23.51 M parameters and the head for a ResNet-50. With the source, five tasks and 584
    classes in all: 25.56 + 5 * 23.51 + 1.20 = 144.3 M, as in Table 5.
    """

    name: ClassVar[str] = "ft"
    config_class: ClassVar[type | None] = FineTuningConfig

    def __init__(self, source: Source, num_classes: int, options: FineTuningConfig) -> None:
        super().__init__(source, num_classes, options.statistics)
        self.options = options

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        return cls(source, num_classes, read_options(FineTuningConfig, config, cls.name))

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls.build(source, num_classes, config).eval()

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.options)

    def parameter_lr_scale(self, name: str) -> float:
        return self.options.copy_rate if name.startswith("cnn.") else 1.0
