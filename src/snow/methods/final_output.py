"""FO, final output only: a linear probe on the source's final features (Yosinski et al., 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import Features, Source
from snow.subscribe import inverse_std


class FinalOutput(Method):
    """Classify final features linearly: (B, D) -> (B, C), `linear(x * gain)`.

    `gain` is 1 / standard deviation of each feature over some training pictures, see `inverse_std`.
    """

    name: ClassVar[str] = "fo"
    uses_pictures: ClassVar[bool] = False

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.classifier = nn.Linear(num_features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(num_features))

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError for any option."""
        if config:
            raise SnowError(f"method fo has no options, got {', '.join(config)}")
        return cls(source.num_features, num_classes)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls.build(source, num_classes, config).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, features: Features) -> Tensor:
        return self.classifier(features.final * self.gain.to(features.final.dtype))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        final = torch.cat([features.final.float() for features, _ in batches])
        self.gain.copy_(inverse_std(final.std(0, correction=0)))
