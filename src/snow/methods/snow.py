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
from snow.delta.plan import kept
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

        logits = delta(features) + readout(features)

    The readout is the start by evidence, see `snow.delta.start`; the delta adds nothing to it before the first step,
    and is dropped where training was not better than the start. With `start=zero` there is no readout, and the delta
    reads final features and moments itself.

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
        self._evidence: dict[str, Any] = {}
        self._folds: Tensor | None = None
        self._batch_folds: Tensor | None = None

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        options = SnowConfig.from_dict(config or {}).resolved(num_classes)
        assert options.keep is not None
        final_keep = None if options.start == EVIDENCE else options.final_keep
        plan = make_plan(source, options.width, options.keep, final_keep, options.finest, options.patchify)
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
        folds, self._batch_folds = self._batch_folds, None
        if self.readout is None:
            assert self.delta is not None
            return self.delta(features)
        logits = self.readout(features, folds if self.training else None)
        return logits if self.delta is None else logits + self.delta(features)

    def selected_mask(self) -> dict[str, Tensor]:
        read = {} if self.readout is None else self.readout.selected_mask()
        selected = {} if self.delta is None else self.delta.selected_mask()
        both = {tap: mask | read[tap] for tap, mask in selected.items() if tap in read}
        return {**selected, **read, **both}

    def freeze_selection(self) -> None:
        if self.delta is not None:
            self.delta = self.delta.freeze_selection()

    def sample_channels(self) -> dict[str, Tensor | None]:
        channels: dict[str, Tensor | None] = {} if self.readout is None else {FINAL: None}
        return channels if self.delta is None else {**channels, **self.delta.sample_channels()}

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
        plain = {tap: rows.moments[tap][0].float() for tap in self.delta.taps}
        if self.options.start != EVIDENCE:
            plain[FINAL] = rows.final_moments()
        self.delta.calibrate({tap: ChannelStatistics.from_moments([x], rows.label) for tap, x in plain.items()})
        if self.options.start == EVIDENCE:
            self._find_start(rows, learned, likelihood or CATEGORICAL)
        else:
            self.delta.init_directions(plain, rows.label if rows.label.ndim == 1 else _as_classes(rows.label))

    def _start_from_zero(self) -> None:
        """Take the form without a start, for targets whose likelihood is not known."""
        options = replace(self.options, start="zero").resolved(self.num_classes)
        assert options.final_keep is not None
        self.options, self.readout = options, None
        self.plan = replace(self.plan, final_keep=kept(self.plan.final, options.final_keep))
        device = next(self.parameters()).device
        self.delta = Delta(self.plan, self.num_classes, options, self.is_exported).to(device)

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
        if start.folds is not None:
            self._folds = torch.full((len(rows.label),), -1)
            self._folds[known] = start.folds

    @property
    def evidence(self) -> dict[str, Any]:
        return self._evidence

    @property
    def folds(self) -> Tensor | None:
        return self._folds

    def set_folds(self, folds: Tensor) -> None:
        self._batch_folds = folds

    def layout(self) -> dict[str, Any] | None:
        if self.readout is None:
            return {"start": "zero"}
        readout = self.readout.shape.to_dict()
        folds = None if self._folds is None else self._folds.tolist()
        return {
            "readout": readout,
            "crossfit": self.readout.folds,
            "folds": folds,
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
        folds = int(layout["crossfit"])
        dropout = self.options.dropout
        self.readout = Readout(shape, self.num_classes, not self.is_exported, folds, dropout).to(device)
        self._folds = None if layout["folds"] is None else torch.tensor(layout["folds"])
        self._evidence = dict(layout["evidence"])
        if not layout["delta"]:
            self.delta = None

    @property
    def growth(self) -> float:
        return self._evidence.get("growth", 1.0)

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
        return exported.eval()


def _as_classes(targets: Tensor) -> Tensor:
    """Number different targets, such as combinations of tags: (n, W) -> (n,), -1 where nothing is known."""
    known = targets.isfinite().any(1)
    numbers = targets.new_full((len(targets),), -1, dtype=torch.int64)
    numbers[known] = targets[known].nan_to_num(-1.0).unique(dim=0, return_inverse=True)[1]
    return numbers
