"""How a run learns: everything that decides its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from snow.errors import SnowError
from snow.kinds.choices import ThresholdTarget, named_weights

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "step", "constant"]
Precision = Literal["auto", "32", "bf16", "16", "int8"]
CacheDtype = Literal["fp16", "fp32", "int8"]
NumberLoss = Literal["huber", "squared"]
Sampling = Literal["uniform", "balanced"]
WeightBits = Literal[32, 8, 4]

CACHE_VIEWS = 4
CACHE_DTYPE: CacheDtype = "fp16"
"""What a run with a cache uses where its recipe does not say."""


LATER_FIELDS = {
    "freeze_selection": None,
    "cache_views": None,
    "cache_dtype": None,
    "class_weights": None,
    "number_loss": "huber",
    "sampling": "uniform",
    "thresholds": "f1",
    "weight_bits": 32,
}
"""Fields that version 0.1.0 did not have, or left out by default, and these defaults."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns. On a CPU the same recipe gives the same bits.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step, over all processes together. An epoch is cut into equal batches of at most this.
        optimizer: adamw or sgd.
        lr: the highest learning rate; a method may scale it for some of its parameters.
        weight_decay: decay of the weights; a method decides which parameters are spared.
        momentum: of sgd.
        schedule: cosine falls to zero over the run, step divides by 10 every `step_epochs`, constant stays.
        warmup_epochs: the rate rises linearly for this long, at most for half of the run.
        step_epochs: epochs between two steps of the step schedule.
        label_smoothing: probability that the target spreads over all classes.
        class_weights: weight of each class, or of the pictures with a tag, in the loss: balanced weighs all classes
            alike, and NAME=WEIGHT,… some of them. By default each picture counts once.
        sampling: uniform shows each training picture once an epoch; balanced draws as many, of each class, grade or
            rarest tag alike, so that rare ones come again and again. With several tasks the weights are averaged.
        thresholds: how the threshold of each tag is picked on held-out pictures: f1 for the best F1; precision=0.9 for
            as many pictures as possible with at least this precision; recall=0.9 for as few as possible with this one.
        number_loss: huber is hardly affected by single wrong numbers, squared is the mean squared error.
        augment: how training pictures are varied, a name in `snow.data.transforms.AUGMENTS`.
        clip_grad: largest norm of the gradient of each learner; 0 does not clip.
        ema: decay of an exponential average of the weights, which is kept in their place; 0 keeps the weights.
        validation: fraction of the training pictures held out to measure accuracy after each epoch; 0 holds out none.
        patience: stop a learner after this many epochs without a better validation accuracy and keep its best weights.
        calibration: training pictures that a method may look at before the first step.
        precision: auto takes bf16 where the hardware computes in it, otherwise 32. int8 is for CPUs: the frozen source
            computes in 8 bits, and the learners as with auto.
        freeze_selection: freeze the choice of channels after calibration instead of learning it. By default it is
            frozen only if features are cached, which needs it.
        cache_views: with a cache, views of each picture that are kept, each augmented in its own way, for the epochs
            in turn; by default 4.
        cache_dtype: with a cache, fp32 keeps features as they are, fp16 takes half of that, int8 about a quarter; by
            default fp16.
        weight_bits: bits of each saved weight. 32 saves weights as trained. 8 and 4 round what a copy of the source has
            learned on top of the source's weights, and other large weights to 8 bits, before the task is measured.
        seed: of order, augmentation and noise.

    Raises:
        SnowError: a value is outside its range. The message gives the name and the range.
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
    class_weights: str | None = None
    sampling: Sampling = "uniform"
    thresholds: str = "f1"
    number_loss: NumberLoss = "huber"
    augment: str = "mild"
    clip_grad: float = 0.0
    ema: float = 0.0
    validation: float = 0.0
    patience: int | None = None
    calibration: int = 8192
    precision: Precision = "auto"
    freeze_selection: bool | None = None
    cache_views: int | None = None
    cache_dtype: CacheDtype | None = None
    weight_bits: WeightBits = 32
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {
            "optimizer": Optimizer,
            "schedule": Schedule,
            "precision": Precision,
            "cache_dtype": CacheDtype,
        }
        choices["number_loss"], choices["sampling"] = NumberLoss, Sampling
        ThresholdTarget.parse(self.thresholds)
        if self.class_weights not in (None, "balanced"):
            named_weights(str(self.class_weights))
        for name, values in choices.items():
            known = get_args(values)
            default = name == "cache_dtype" and self.cache_dtype is None
            self._require(name, default or getattr(self, name) in known, f"one of {', '.join(known)}")
        self._require("weight_bits", self.weight_bits in get_args(WeightBits), "one of 32, 8, 4")
        for name in ("epochs", "batch_size", "step_epochs"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "warmup_epochs", "clip_grad", "calibration", "seed"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "zero or more")
        self._require("seed", self.seed < 2**63, "below 2^63")
        for name in ("momentum", "label_smoothing", "ema", "validation"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._require("lr", 0 < self.lr < math.inf, "more than zero")
        for name in ("patience", "cache_views"):
            self._require(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1, or None")
        if self.freeze_selection:
            self._require("calibration", self.calibration > 0, "more than zero where it decides the choice of channels")
        if self.patience is not None and not self.validation:
            raise SnowError("patience needs pictures to measure on: set validation to a fraction such as 0.1")

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Return the recipe of section 3.1: SGD at 1.0, divided by 10 every 30 epochs (its other methods use 0.1)."""
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
        """Return the learning rate at a step (from 0) as a factor of `lr`. `batches`: steps in an epoch."""
        total = self.epochs * batches
        warmup = round(min(self.warmup_epochs, self.epochs / 2) * batches)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
        if self.schedule == "step":
            return 0.1 ** (step // batches // self.step_epochs)
        return 1.0

    def resolved(self, cached: bool) -> Self:
        """Fill in the fields that depend on whether features are cached.

        Without a cache every epoch sees a new view of each picture, and features are not rounded: both cache fields
        become None. The result says everything about what is learned, so that two runs can be compared.

        Raises:
            SnowError: features are to be cached, and the recipe forbids to freeze the choice of channels.
        """
        if not cached:
            return replace(self, freeze_selection=self.freeze_selection or None, cache_views=None, cache_dtype=None)
        if self.freeze_selection is False:
            raise SnowError("a cache needs a frozen choice of channels: leave out the cache or freeze_selection=False")
        views, dtype = self.cache_views or CACHE_VIEWS, self.cache_dtype or CACHE_DTYPE
        return replace(self, freeze_selection=True, cache_views=views, cache_dtype=dtype)

    @property
    def views(self) -> int | None:
        """How many views of a picture the epochs use in turn; None: each epoch has a new one. Of a resolved recipe."""
        return None if self.cache_views is None else min(self.cache_views, self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without those that version 0.1.0 did not have or left out by default."""
        values = asdict(self)
        absent = [name for name in LATER_FIELDS if values[name] == LATER_FIELDS[name] or not values[name]]
        return {name: value for name, value in values.items() if name not in absent}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the fields, as this version or 0.1.0 wrote them.

        Raises:
            SnowError: this version does not know a field.
        """
        values = _without_runtime(values)
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise SnowError(f"unknown recipe field {', '.join(unknown)}: it is from another version")
        return cls(**values)

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SnowError(f"{name} must be {rule}, not {getattr(self, name)!r}")


def current_fields(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recorded recipe as `Recipe.to_dict` writes them today, to compare two recipes."""
    values = _without_runtime(recorded)
    return {name: value for name, value in values.items() if value or name != "freeze_selection"}


def _without_runtime(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what version 0.1.0 recorded with the recipe and `Runtime` has now; its cache froze the selection."""
    values = {name: value for name, value in recorded.items() if name not in ("workers", "checkpoint_seconds", "cache")}
    if recorded.get("cache"):
        values["freeze_selection"] = True
    return values
