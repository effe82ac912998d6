"""The options of a delta: `SnowConfig`, which is also the configuration of the method `snow`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from snow.errors import SnowError
from snow.subscribe import SUBSCRIPTIONS, PoolingConfig

EVIDENCE = "evidence"
STARTS = (EVIDENCE, "zero")
"""Where training starts from."""

_STARTING = ("start", "budget")
"""Options of a start by evidence."""


@dataclass(frozen=True)
class SnowConfig:
    """The shape of a delta, what it reads of the source, and how it selects channels.

    Attributes:
        width: channels of the delta per channel of the source (paper: delta model size, 1/8). Wider deltas fit more
            and cost quadratically more.
        keep: K / N at each tap (paper: 1/8). By default 1/8; with `start=zero`, 1/4 with more classes than `rank`.
        start: "evidence" has a linear classifier on final features, answers and moments of the source beside the delta,
            as left-out pictures bear out, and a delta only where it makes that better on held-out pictures. "zero" is
            the delta alone (paper); the default where `final_keep`, `readout` or `rank` is named.
        budget: largest number of weights of that classifier per parameter of the source. A linear probe's number is
            always allowed.
        final_keep: K / N of the source's final features, an input of the classifier; by default 1/8 with more classes
            than `rank`, else 1/2.
        finest: stride in pixels of the finest maps to subscribe to; finer ones are skipped where coarser ones exist
            (paper: all; 4 with `preset=paper`). Finer maps take most of a delta's time.
        patchify: replace the stem by one convolution over patches as large as the stride of the first map. The stem of
            the paper resembles the source's, and takes most of a delta's time at high resolution.
        dropout: dropout probability of the classifier's inputs.
        readout: scale of the mean and standard deviation of every subscribed channel as extra inputs of the
            classifier, beside the final features with scale 1; by default 1. 0 leaves them out (paper).
        rank: number R of directions between these moments and the classes, used where R * (inputs + classes) is less
            than inputs * classes; by default 48, with `start=zero` 128. They start as linear discriminants. 0 connects
            moments and classes directly.
        subscription: how channels of a map are read, a name in `SUBSCRIPTIONS`.
        pooling: how channel pooling learns its selection.

    Raises:
        SnowError: a ratio outside (0, 1], or an unknown subscription.
    """

    width: float = 1 / 16
    keep: float | None = None
    final_keep: float | None = None
    finest: int = 8
    patchify: bool = True
    dropout: float = 0.2
    readout: float | None = None
    rank: int | None = None
    subscription: str = "channel_pooling"
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    start: str | None = None
    budget: float = 0.1

    def __post_init__(self) -> None:
        for name in ("width", "keep", "final_keep"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise SnowError(f"{name} is a ratio in (0, 1], not {value}")
        if not 0 <= self.dropout < 1:
            raise SnowError(f"dropout is a probability in [0, 1), not {self.dropout}")
        if self.readout is not None and not 0 <= self.readout < math.inf:
            raise SnowError(f"readout is a scale, zero or more, not {self.readout}")
        if self.rank is not None and self.rank < 0:
            raise SnowError(f"rank is a number of directions, zero or more, not {self.rank}")
        if self.start not in (None, *STARTS):
            raise SnowError(f"start is one of {', '.join(STARTS)}, not {self.start!r}")
        if not 0 <= self.budget < math.inf:
            raise SnowError(f"budget is a fraction of the source's parameters, zero or more, not {self.budget}")
        if self.subscription not in SUBSCRIPTIONS:
            raise SnowError(f"no subscription {self.subscription!r}: there are {', '.join(SUBSCRIPTIONS)}")

    @classmethod
    def paper(cls, sigma2: float = 1e-3) -> SnowConfig:
        """Make the paper's delta with Algorithm 1 as written."""
        return cls(
            *(1 / 8, 1 / 8, 1 / 8, 4, False),
            dropout=0.0,
            readout=0.0,
            rank=0,
            pooling=PoolingConfig.literal(sigma2),
            start="zero",
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SnowConfig:
        """Read options by name, over the defaults, or over `SnowConfig.paper()` with `preset="paper"` among them.

        Raises:
            SnowError: an unknown option or preset.
        """
        values = dict(values)
        preset, pooling = values.pop("preset", "default"), values.pop("pooling", {})
        if preset not in PRESETS:
            raise SnowError(f"method snow has no preset {preset!r}: there are {', '.join(PRESETS)}")
        base = PRESETS[preset]()
        pooling = asdict(pooling) if isinstance(pooling, PoolingConfig) else dict(pooling)
        _check_names(values, cls)
        _check_names(pooling, PoolingConfig)
        return replace(base, **values, pooling=replace(base.pooling, **pooling))

    def resolved(self, num_classes: int) -> SnowConfig:
        """Fill in the defaults that depend on each other or on the number of classes."""
        start = self.start or ("zero" if self._names_a_head else EVIDENCE)
        by_evidence = start == EVIDENCE
        rank = (48 if by_evidence else 128) if self.rank is None else self.rank
        keep, final_keep = (1 / 4, 1 / 8) if 0 < rank < num_classes else (1 / 8, 1 / 2)
        keep = 1 / 8 if by_evidence else keep
        return replace(
            self,
            keep=keep if self.keep is None else self.keep,
            final_keep=final_keep if self.final_keep is None else self.final_keep,
            readout=1.0 if self.readout is None else self.readout,
            rank=rank,
            start=start,
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values. Without a start by evidence they are those of version 0.1.0."""
        values = asdict(self)
        return values if self.start == EVIDENCE else {name: values[name] for name in values if name not in _STARTING}

    @property
    def _names_a_head(self) -> bool:
        return any(value is not None for value in (self.final_keep, self.readout, self.rank))


PRESETS = {"default": SnowConfig, "paper": SnowConfig.paper}
"""Preset -> the options that others are changes of."""


def _check_names(values: Mapping[str, Any], kind: type[SnowConfig] | type[PoolingConfig]) -> None:
    known = [entry.name for entry in fields(kind)]
    for name in values:
        if name not in known:
            raise SnowError(f"method snow has no option {name!r}: there are {', '.join(known)}")
