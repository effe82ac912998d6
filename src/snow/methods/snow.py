"""SNOW: a delta that subscribes to the source's channels (Yoo et al., the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from snow.delta import (
    CATEGORICAL,
    Delta,
    DeltaPlan,
    Likelihood,
    Readout,
    ReadoutShape,
    SnowConfig,
    find_start,
    make_plan,
)
from snow.delta.config import EVIDENCE
from snow.methods.calibration_rows import CalibrationRows
from snow.methods.method import Method, require_channels, require_index
from snow.source import FINAL, LOGITS, Features, Source
from snow.subscribe import ChannelStatistics

UNSAVED_OPTIONS: dict[str, Any] = {"patchify": False, "readout": 0.0, "rank": 0, "start": "zero"}
"""Values of options that early artefacts do not hold: they were saved before these options existed."""

READOUT_LR_SCALE = 0.3
EXPAND_LR_SCALE = 3.0
"""Learning rates of the low-rank head's directions, which start as discriminants, and of its second matrix, which
starts at zero, relative to the rest. Chosen on held-out training pictures of 196 classes."""


class Snow(Method):
    """Train a `Delta`; what is saved holds the selected channels only.

        logits = (1 - s) readout(features) + s delta(features)

    The readout is the start by evidence, see `snow.delta.start`. The delta learns from its own logits alone: beside
    those of a closed form, which knows the pictures that it is fitted to, it would have nothing left to learn. Where
    both are good they err on different pictures, and their sum is right more often than either. Held-out pictures say
    how much each counts; if they find no epoch better than the start, the delta is dropped. With `start=zero` there is
    no readout.

    Args:
        plan: shapes of the delta.
        options: resolved.
        exported: build the form that is saved and answers.
        readout: shape of the readout; None: by the options, a linear probe of the final features or none.
        budget: upper bound of the numbers of a start.
        answers: number of the source's classes; 0: the start does not read its answers.
        with_delta: False for a kept start, which has no delta.
    """

    name: ClassVar[str] = "snow"
    config_class: ClassVar[type | None] = SnowConfig

    def __init__(
        self,
        plan: DeltaPlan,
        num_classes: int,
        options: SnowConfig,
        exported: bool = False,
        readout: ReadoutShape | None = None,
        budget: int = 0,
        answers: int = 0,
        with_delta: bool = True,
    ) -> None:
        super().__init__()
        self.plan, self.num_classes, self.options = plan, num_classes, options
        self.is_exported = exported
        self.delta = Delta(plan, num_classes, options, exported) if with_delta else None
        self.readout: Readout | None = None
        if readout is None and options.start == EVIDENCE:
            readout = ReadoutShape(((FINAL, plan.final),), plan.final, 0)
        if readout is not None:
            self.readout = Readout(readout, num_classes, not exported, dropout=options.dropout)
        self._budget, self._answers = budget, answers
        self.share: Tensor | None
        self.register_buffer("share", None)
        self._evidence: dict[str, Any] = {}

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        options = SnowConfig.from_dict(config or {}).resolved(num_classes)
        assert options.keep is not None
        plan = make_plan(source, options.width, options.keep, options.final_keep, options.finest, options.patchify)
        budget = max(round(options.budget * source.learned_parameters), (source.num_features + 1) * num_classes)
        return cls(plan, num_classes, options, budget=budget, answers=source.num_classes)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        plan = DeltaPlan.from_dict(config["plan"])
        options = SnowConfig.from_dict({**UNSAVED_OPTIONS, **config["options"]})
        readout = ReadoutShape.from_dict(config["readout"]) if "readout" in config else None
        with_delta = config.get("delta", True)
        return cls(plan, num_classes, options, exported=True, readout=readout, with_delta=with_delta).eval()

    @property
    def config(self) -> dict[str, Any]:
        config = {"plan": self.plan.to_dict(), "options": self.options.to_dict()}
        if self.readout is None:
            return config
        return {**config, "readout": self.readout.shape.to_dict(), "delta": self.delta is not None}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(() if self.delta is None else self.delta.taps) | self.moment_taps

    @property
    def moment_taps(self) -> frozenset[str]:
        return frozenset() if self.readout is None else self.readout.taps

    @property
    def starts_by_evidence(self) -> bool:
        return self.options.start == EVIDENCE and not self.is_exported

    @property
    def selected_moment_taps(self) -> frozenset[str]:
        return frozenset() if self.delta is None else self.delta.selected_moment_taps()

    def check_source(self, source: Source) -> None:
        super().check_source(source)
        channels = {tap.name: tap.channels for tap in source.taps}
        for level in self.plan.levels:
            require_channels(level.tap, level.channels, channels.get(level.tap, level.channels))
        require_channels(FINAL, self.plan.final, source.num_features)
        sizes = {name: 2 * count for name, count in channels.items()}
        sizes |= {FINAL: source.num_features, LOGITS: source.num_classes}
        for name, size in () if self.readout is None else self.readout.shape.parts:
            require_channels(name, size, sizes.get(name, size))

    def check_indices(self) -> None:
        for tap, subscription in () if self.delta is None else self.delta.named_subscriptions():
            index = dict(subscription.named_buffers(recurse=False)).get("index")
            if index is not None:
                require_index(tap, index, subscription.channels)
        if self.readout is not None:
            require_index("the readout", self.readout.index, sum(size for _, size in self.readout.shape.parts))

    def forward(self, features: Features) -> Tensor:
        if self.readout is None:
            assert self.delta is not None
            return self.delta(features)
        if self.delta is None:
            return self.readout(features)
        if self.share is None:
            return self.readout(features) + self.delta(features)
        return self.delta(features) if self.training else self.mix(self.apart(features), self.share)

    def apart(self, features: Features) -> Tensor:
        if self.share is None or self.readout is None or self.delta is None:
            return self(features)[:, None]
        return torch.stack([self.readout(features), self.delta(features)], 1)

    def set_share(self, share: float) -> None:
        if self.share is not None:
            self.share.fill_(share)

    def selected_mask(self) -> dict[str, Tensor]:
        read = {} if self.readout is None else self.readout.selected_mask()
        selected = {} if self.delta is None else self.delta.selected_mask()
        both = {tap: mask | read[tap] for tap, mask in selected.items() if tap in read}
        return {**selected, **read, **both}

    def freeze_selection(self) -> None:
        if self.delta is not None:
            self.delta = self.delta.freeze_selection()

    def sample_channels(self) -> dict[str, Tensor | None]:
        channels = {} if self.delta is None else self.delta.sample_channels()
        return channels if self.readout is None else {**channels, FINAL: None}

    def set_progress(self, fraction: float) -> None:
        if self.delta is not None:
            self.delta.set_progress(fraction)

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        self.calibrate_views(batches, 1)

    @torch.no_grad()
    def calibrate_views(
        self,
        batches: Iterable[tuple[Features, Tensor]],
        views: int,
        learned: Tensor | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        taps = [level.tap for level in self.plan.levels]
        rows = CalibrationRows.of(batches, taps, views, with_answers=self._answers > 0)
        if likelihood is None and rows.label.ndim > 1 and self.options.start == EVIDENCE:
            self._start_from_zero()
        assert self.delta is not None
        plain = {tap: rows.moments[tap][0].float() for tap in self.delta.taps} | {FINAL: rows.final_moments()}
        label = rows.label if learned is None else _without(rows.label, ~learned)
        self.delta.calibrate({tap: ChannelStatistics.from_moments([x], label) for tap, x in plain.items()})
        self.delta.init_directions(plain, label if label.ndim == 1 else _as_classes(label))
        if self.options.start == EVIDENCE:
            self._find_start(rows, learned, likelihood or CATEGORICAL)

    def _start_from_zero(self) -> None:
        """Take the form without a start, for targets whose likelihood is not known."""
        self.options, self.readout = replace(self.options, start="zero"), None

    def _find_start(self, rows: CalibrationRows, learned: Tensor | None, likelihood: Likelihood) -> None:
        """Start as the linear fit that left-out pictures bear out, if their labels differ."""
        known = likelihood.is_known(rows.label)
        labelled = rows.of_pictures(known)
        if not likelihood.can_fit(labelled.label):
            return
        device = next(self.parameters()).device
        fitted = None if learned is None else learned[known]
        start = find_start(labelled.pass_rows(self.num_classes, likelihood), self._budget, fitted)
        self.readout = Readout.from_start(start, labelled.parts(), self.options.dropout).to(device)
        self._evidence = start.evidence
        if fitted is not None and not bool(fitted.all()):
            self._learn_apart()

    def _learn_apart(self) -> None:
        """Let the delta alone learn, from its own logits."""
        assert self.readout is not None
        self.readout.requires_grad_(False)
        self.share = torch.zeros((), device=self.readout.bias.device)

    @property
    def evidence(self) -> dict[str, Any]:
        return self._evidence

    def layout(self) -> dict[str, Any] | None:
        if self.readout is None:
            return {"start": "zero"}
        return {
            "readout": self.readout.shape.to_dict(),
            "apart": self.share is not None,
            "delta": self.delta is not None,
            "evidence": self._evidence,
        }

    def set_layout(self, layout: Mapping[str, Any]) -> None:
        if layout.get("start") == "zero":
            if self.options.start == EVIDENCE:
                self._start_from_zero()
            return
        device = next(self.parameters()).device
        shape = ReadoutShape.from_dict(layout["readout"])
        self.readout = Readout(shape, self.num_classes, not self.is_exported, self.options.dropout).to(device)
        if layout["apart"]:
            self._learn_apart()
        self._evidence = dict(layout["evidence"])
        if not layout["delta"]:
            self.delta = None

    @torch.no_grad()
    def conclude(self, trained: bool, scale: float) -> None:
        if self.readout is None:
            return
        self.readout.add_refit()
        if not trained:
            self.delta = None
            return
        for part in (self.readout, self.delta):
            if part is not None:
                part.multiply(scale)

    def parameter_lr_scale(self, name: str) -> float:
        part, module, *rest = name.split(".")
        if part == "readout":
            return 1.0
        scales = {"readouts": READOUT_LR_SCALE, "expand": EXPAND_LR_SCALE}
        return scales[rest[0]] if module == "directions" else 1.0

    def export_form(self) -> Self:
        if self.is_exported:
            return self.eval()
        shape = None if self.readout is None else self.readout.shape
        with torch.device("meta"):  # makes no tensors and draws no random numbers: its parts are replaced below
            exported = type(self)(
                self.plan, self.num_classes, self.options, True, shape, with_delta=self.delta is not None
            )
        exported.delta = None if self.delta is None else self.delta.export_form()
        exported.readout = None if self.readout is None else self.readout.export_form()
        if self.share is not None and exported.delta is not None and exported.readout is not None:
            exported.readout.multiply(1 - float(self.share))
            exported.delta.multiply(float(self.share))
        return exported.eval()


def _without(labels: Tensor, hidden: Tensor) -> Tensor:
    """Make the labels of some pictures unknown: (n,) or (n, W), (n,) of bool."""
    return labels.masked_fill(hidden, -1) if labels.ndim == 1 else labels.masked_fill(hidden[:, None], torch.nan)


def _as_classes(targets: Tensor) -> Tensor:
    """Number different targets, such as combinations of tags: (n, W) -> (n,), -1 where nothing is known."""
    known = targets.isfinite().any(1)
    numbers = targets.new_full((len(targets),), -1, dtype=torch.int64)
    numbers[known] = targets[known].nan_to_num(-1.0).unique(dim=0, return_inverse=True)[1]
    return numbers
