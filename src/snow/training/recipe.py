"""Sizes of memory as people write them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from snow.errors import SnowError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Bytes, from such as `4GB`, `500 MB` or a plain number.

    Raises:
        SnowError: it is not a size, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b?)\s*", text, re.IGNORECASE)
    unit = found.group(2).upper() if found else ""
    size = round(float(found.group(1)) * UNITS[unit if unit[-1:] in ("", "B") else f"{unit}B"]) if found else 0
    if size < 1:
        raise SnowError(f"{text!r} is no size: write 4GB or 500MB")
    return size


def shown_size(size: int) -> str:
    """Three digits and a unit."""
    unit = max((one for one in UNITS if UNITS[one] <= max(1, size)), key=lambda one: (UNITS[one], len(one)))
    return f"{size / UNITS[unit]:.3g} {unit}"


Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "step", "constant"]
Precision = Literal["auto", "32", "bf16", "16", "int8"]
CacheDtype = Literal["fp16", "fp32", "int8"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns, and with `seed` decides it bit by bit on a CPU.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step, over all processes together. An epoch is cut into equal batches of at most this.
        optimizer: adamw or sgd.
        lr: the highest learning rate; a method may scale it for some of its parameters.
        weight_decay: of the weights; a method decides which parameters are spared.
        momentum: of sgd.
        schedule: cosine falls to zero over the run, step divides by 10 every `step_epochs`, constant stays.
        warmup_epochs: the rate rises in a straight line for this long, at most for half of the run.
        step_epochs: epochs between two steps of the step schedule.
        label_smoothing: probability that the target spreads over all classes.
        augment: how training pictures are varied, a name in `snow.data.transforms.AUGMENTS`.
        clip_grad: largest norm of a learner's gradient; 0 does not clip.
        ema: decay of an exponential average of the weights, which then is what is kept; 0 keeps the weights themselves.
        validation: fraction of the training pictures held out to measure each epoch; 0 holds out none.
        patience: stop a learner after this many epochs without a better validation accuracy and keep its best weights.
        calibration: training pictures that a method may look at before the first step.
        precision: auto takes bf16 where the hardware computes in it, otherwise 32. With int8, which is for CPUs, the
            frozen source computes in 8 bits, and what learns as with auto.
        cache: a size such as 4GB: the choice of channels is that of the calibration for good, and what the source makes
            of the training pictures is kept within this size, so that it is run but once for each view of a picture.
        cache_views: views of each picture that are kept, each augmented in its own way, for the epochs in turn.
        cache_dtype: fp32 keeps features as they are, fp16 takes half of that, int8 about a quarter.
        seed: of order, augmentation and noise.
        workers: processes a process loads pictures with; by default one for each spare core, at most 8.
        checkpoint_seconds: longest time between two checkpoints; there is always one at the end of an epoch.

    Raises:
        SnowError: a value outside its range, named with the range.
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    warmup_epochs: float = 1.0
    step_epochs: int = 30
    label_smoothing: float = 0.1
    augment: str = "mild"
    clip_grad: float = 0.0
    ema: float = 0.0
    validation: float = 0.0
    patience: int | None = None
    calibration: int = 8192
    precision: Precision = "auto"
    cache: str | None = None
    cache_views: int = 4
    cache_dtype: CacheDtype = "fp16"
    seed: int = 0
    workers: int | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, choices in (
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("precision", Precision),
            ("cache_dtype", CacheDtype),
        ):
            self._require(name, getattr(self, name) in get_args(choices), f"one of {', '.join(get_args(choices))}")
        for name in ("epochs", "batch_size", "step_epochs", "cache_views"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "clip_grad",
            "calibration",
            "seed",
            "checkpoint_seconds",
        ):
            self._require(name, 0 <= getattr(self, name) < math.inf, "zero or more")
        for name in ("momentum", "label_smoothing", "ema", "validation"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._require("lr", 0 < self.lr < math.inf, "more than zero")
        self._require("patience", self.patience is None or self.patience >= 1, "at least 1, or None")
        self._require("workers", self.workers is None or self.workers >= 0, "zero or more, or None")
        if self.cache is not None:
            parse_size(self.cache)
            self._require("calibration", self.calibration > 0, "more than zero with a cache: it makes the choice")
        if self.patience is not None and not self.validation:
            raise SnowError("patience needs pictures to measure on: set validation to a fraction such as 0.1")

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The paper's section 3.1: SGD at 1.0, divided by 10 every 30 epochs (its other methods start at 0.1)."""
        values: dict[str, Any] = {
            "epochs": 90,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 1.0,
            "weight_decay": 1e-4,
            "momentum": 0.9,
            "schedule": "step",
            "warmup_epochs": 0.0,
            "step_epochs": 30,
            "label_smoothing": 0.0,
        }
        return cls(**{**values, **changes})

    def rate(self, step: int, batches: int) -> float:
        """The learning rate at a step (from 0), as a factor of `lr`. `batches`: steps in an epoch."""
        total = self.epochs * batches
        warmup = round(min(self.warmup_epochs, self.epochs / 2) * batches)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
        if self.schedule == "step":
            return 0.1 ** (step // batches // self.step_epochs)
        return 1.0

    @property
    def views(self) -> int | None:
        """Into how many views of a picture the epochs are divided; None: each has one of its own."""
        return None if self.cache is None else min(self.cache_views, self.epochs)

    def loading_workers(self, processes: int = 1) -> int:
        """Loading processes of each training process, when `processes` of them share this machine."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(0, cores // processes - 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; without a cache, nothing of what one would be like."""
        values = asdict(self)
        return values if self.cache else {name: value for name, value in values.items() if "cache" not in name}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises SnowError for a field that this version does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise SnowError(f"unknown recipe field {', '.join(unknown)}: it is from another version")
        return cls(**values)

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SnowError(f"{name} must be {rule}, not {getattr(self, name)!r}")
