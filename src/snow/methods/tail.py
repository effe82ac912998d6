"""The tail: SNOW's start, and beside it the task's own copy of the source's last stages.

    logits = (1 - s) start(features) + s copy(map)

The start reads what all of the source says and is found in closed form; the copy learns what the source does not know.
They err on different pictures, so that their sum is right more often than either. Held-out pictures say how much each
counts; if they find no epoch better than the start, the copy is dropped. The copy learns from its own logits alone:
beside those of a start, which knows its training pictures, it would have nothing left to learn.

Both are parts of one pass: the copy reads the map in front of it, see `snow.methods.partial_fine_tuning`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from snow.delta import Likelihood
from snow.methods.method import Method, read_options
from snow.methods.partial_fine_tuning import PartialFineTuning
from snow.methods.snow import Snow
from snow.methods.source_copy import require_maps
from snow.source import Features, Source

WITHOUT_EVIDENCE = 0.5
"""Share of the copy where no pictures are held out, as in a run with class weights."""


@dataclass(frozen=True)
class TailConfig:
    """The copy, and the size of the start.

    Attributes:
        stages: how many of the source's resolutions, from the coarsest, are copied for the task.
        keep: share of the channels inside the copy's blocks that it keeps, see `snow.methods.pruning`.
        copy_rate: learning rate of the copy relative to that of its head.
        statistics: which statistics BatchNorm in the copy uses, "task" or "source"; see `SourceCopy`.
        budget: numbers that the start may have, as a share of the source's parameters; see `SnowConfig`.
    """

    stages: int = 1
    keep: float = 1.0
    copy_rate: float = 0.3
    statistics: str = "task"
    budget: float = 0.1


class Tail(Method):
    """Train a copy of the last stages beside a start in closed form: `Features` of B pictures -> (B, C).

    Args:
        start: its delta is dropped once the start is found.
        tail: the copy; None: the start was kept alone.
    """

    name: ClassVar[str] = "tail"
    config_class: ClassVar[type | None] = TailConfig
    uses_pictures: ClassVar[bool] = False

    def __init__(self, start: Snow, tail: PartialFineTuning | None) -> None:
        super().__init__()
        self.start, self.copy = start, tail
        self.num_classes = start.num_classes
        self.share: Tensor
        self.register_buffer("share", torch.zeros(()))

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: as `PartialFineTuning.build` and `Snow.build`."""
        require_maps(source, cls.name)
        options = read_options(TailConfig, config, cls.name)
        start = Snow.build(source, num_classes, {"budget": options.budget})
        copied = {name: getattr(options, name) for name in ("stages", "copy_rate", "statistics", "keep")}
        return cls(start.requires_grad_(False), PartialFineTuning.build(source, num_classes, copied))

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        start = Snow.rebuild(source, num_classes, config["start"])
        copied = config["copy"]
        tail = None if copied is None else PartialFineTuning.rebuild(source, num_classes, copied)
        return cls(start, tail).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"start": self.start.config, "copy": None if self.copy is None else self.copy.config}

    @property
    def taps(self) -> frozenset[str]:
        return self.start.taps | (frozenset() if self.copy is None else self.copy.taps)

    @property
    def moment_taps(self) -> frozenset[str]:
        return self.start.moment_taps

    @property
    def starts_by_evidence(self) -> bool:
        return self.start.starts_by_evidence

    @property
    def evidence(self) -> dict[str, Any]:
        return self.start.evidence

    def check_source(self, source: Source) -> None:
        super().check_source(source)
        self.start.check_source(source)

    def check_indices(self) -> None:
        self.start.check_indices()

    def base_of(self, name: str, source: Source) -> Tensor | None:
        part, _, rest = name.partition(".")
        return self.copy.base_of(rest, source) if part == "copy" and self.copy is not None else None

    def forward(self, features: Features) -> Tensor:
        if self.training and self.starts_by_evidence and self.copy is not None:
            return self.copy(features)
        return self.mix(self.apart(features), self.share)

    def apart(self, features: Features) -> Tensor:
        start = self.start(features)
        return start[:, None] if self.copy is None else torch.stack([start, self.copy(features)], 1)

    def set_share(self, share: float) -> None:
        self.share.fill_(share)

    def sample_channels(self) -> dict[str, Tensor | None]:
        channels = self.start.sample_channels()
        return channels if self.copy is None else {**channels, self.copy.map: None}

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        self.calibrate_views(batches, 1)

    def calibrate_views(
        self,
        batches: Iterable[tuple[Features, Tensor]],
        views: int,
        learned: Tensor | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        passed = batches if self.copy is None else self.copy.choosing(batches)
        self.start.calibrate_views(passed, views, learned, likelihood)
        self.start.requires_grad_(False)
        has_start = self.start.readout is not None  # labels of another kind may have none
        if has_start:
            self.start.delta = None
        self.set_share(WITHOUT_EVIDENCE if has_start else 1.0)

    def layout(self) -> dict[str, Any] | None:
        start = self.start.layout()
        return None if start is None else {**start, "copy": self.copy is not None}

    def set_layout(self, layout: Mapping[str, Any]) -> None:
        self.start.set_layout(layout)
        self.start.requires_grad_(False)
        self.copy = self.copy if layout["copy"] else None

    @torch.no_grad()
    def conclude(self, trained: bool, scale: float) -> None:
        self.start.conclude(trained, scale)
        if not trained:
            self.copy = None
        elif self.copy is not None:
            for value in self.copy.classifier.parameters():
                value *= scale

    def parameter_lr_scale(self, name: str) -> float:
        part, _, rest = name.partition(".")
        return self.copy.parameter_lr_scale(rest) if part == "copy" and self.copy is not None else 1.0

    def export_form(self) -> Self:
        start = self.start.export_form()
        if start.readout is not None:
            start.delta = None
        exported = type(self)(start, self.copy)
        exported.share = self.share
        return exported.eval()
