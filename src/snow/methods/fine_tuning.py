"""FT, fine-tuning: a whole copy of the source, tuned for one task (Dauphin et al., 2012)."""

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
    """How the copy learns.

    Attributes:
        copy_rate: its learning rate beside that of its head, which starts from nothing.
        statistics: of BatchNorm, see `SourceCopy`.

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
    """Every layer of the copy learns under a fresh head; BatchNorm follows the pictures of the task by default.

    What is saved is the whole copy: 23.5 M parameters and the head for a ResNet-50. With five tasks of 584 classes in
    all, beside the source: 25.56 + 5 · 23.51 + 1.20 = 144.3 M, as in Table 5.
    """

    name: ClassVar[str] = "ft"

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

    def rate(self, name: str) -> float:
        return self.options.copy_rate if name.startswith("cnn.") else 1.0
