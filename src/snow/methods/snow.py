"""SNOW: a delta that subscribes to the source's channels (Yoo et al., the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from snow.delta import Delta, DeltaPlan, SnowConfig, make_plan
from snow.methods.method import Method, require_channels, require_index
from snow.source import FINAL, Features, Source
from snow.subscribe import ChannelStatistics, moments

UNSAVED_OPTIONS: dict[str, Any] = {"patchify": False, "readout": 0.0, "rank": 0}
"""Values of options that early artefacts do not hold: they were saved before these options existed."""

READOUT_LR_SCALE = 0.3
EXPAND_LR_SCALE = 3.0
"""Learning rates of the low-rank head's directions, which start as discriminants, and of its second matrix, which
starts at zero, relative to the rest. Chosen on held-out training pictures of 196 classes."""


class Snow(Method):
    """Train a `Delta`; what is saved holds the selected channels only."""

    name: ClassVar[str] = "snow"
    config_class: ClassVar[type | None] = SnowConfig

    def __init__(self, plan: DeltaPlan, num_classes: int, options: SnowConfig, exported: bool = False) -> None:
        super().__init__()
        self.plan, self.num_classes, self.options = plan, num_classes, options
        self.is_exported = exported
        self.delta = Delta(plan, num_classes, options, exported)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        options = SnowConfig.from_dict(config or {}).resolved(num_classes)
        assert options.keep is not None
        assert options.final_keep is not None
        plan = make_plan(source, options.width, options.keep, options.final_keep, options.finest, options.patchify)
        return cls(plan, num_classes, options)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        plan = DeltaPlan.from_dict(config["plan"])
        options = SnowConfig.from_dict({**UNSAVED_OPTIONS, **config["options"]})
        return cls(plan, num_classes, options, exported=True).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"plan": self.plan.to_dict(), "options": asdict(self.options)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(self.delta.taps)

    @property
    def selected_moment_taps(self) -> frozenset[str]:
        return self.delta.selected_moment_taps()

    def check_source(self, source: Source) -> None:
        super().check_source(source)
        channels = {tap.name: tap.channels for tap in source.taps}
        for level in self.plan.levels:
            require_channels(level.tap, level.channels, channels.get(level.tap, level.channels))
        require_channels(FINAL, self.plan.final, source.num_features)

    def check_indices(self) -> None:
        for tap, subscription in self.delta.named_subscriptions():
            index = dict(subscription.named_buffers(recurse=False)).get("index")
            if index is not None:
                require_index(tap, index, subscription.channels)

    def forward(self, features: Features) -> Tensor:
        return self.delta(features)

    def selected_mask(self) -> dict[str, Tensor]:
        return self.delta.selected_mask()

    def freeze_selection(self) -> None:
        self.delta = self.delta.freeze_selection()

    def sample_channels(self) -> dict[str, Tensor | None]:
        return self.delta.sample_channels()

    def set_progress(self, fraction: float) -> None:
        self.delta.set_progress(fraction)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        parts: dict[str, list[Tensor]] = {tap: [] for tap in (*self.delta.taps, FINAL)}
        labels: list[Tensor] = []
        for features, label in batches:
            labels.append(label)
            for tap in parts:
                x = features.final[:, :, None, None] if tap == FINAL else features.maps[tap]
                parts[tap].append(moments(x.float()))
        by_tap, label = {tap: torch.cat(values) for tap, values in parts.items()}, torch.cat(labels)
        self.delta.calibrate({tap: ChannelStatistics.from_moments([x], label) for tap, x in by_tap.items()})
        self.delta.init_directions(by_tap, label if label.ndim == 1 else _as_classes(label))

    def parameter_lr_scale(self, name: str) -> float:
        _, module, *rest = name.split(".")
        scales = {"readouts": READOUT_LR_SCALE, "expand": EXPAND_LR_SCALE}
        return scales[rest[0]] if module == "directions" else 1.0

    def export_form(self) -> Self:
        if self.is_exported:
            return self.eval()
        with torch.device("meta"):  # makes no tensors and draws no random numbers: the delta is replaced below
            exported = type(self)(self.plan, self.num_classes, self.options, exported=True)
        exported.delta = self.delta.export_form()
        return exported.eval()


def _as_classes(targets: Tensor) -> Tensor:
    """Number different targets, such as combinations of tags: (n, W) -> (n,), -1 where nothing is known."""
    known = targets.isfinite().any(1)
    numbers = targets.new_full((len(targets),), -1, dtype=torch.int64)
    numbers[known] = targets[known].nan_to_num(-1.0).unique(dim=0, return_inverse=True)[1]
    return numbers
