"""SNOW: a delta that subscribes to the source's channels (Yoo et al.)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from snow.delta import Delta, DeltaPlan, make_plan
from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import FINAL, Features, Source
from snow.subscribe import SUBSCRIPTIONS, ChannelStatistics, PoolingConfig, moments


@dataclass(frozen=True)
class SnowConfig:
    """The shape of a delta and how it subscribes.

    Attributes:
        width: channels of the delta for each channel of the source (paper: delta model size, 1/8).
        keep: K for each of a map's N channels (paper: 1/8); by default 1/4 where there are more classes than `rank`,
            which want more evidence, else 1/8.
        final_keep: the same for the source's final features, which the classifier takes; by default 1/8 where there are
            so many classes, else 1/2.
        finest: stride in pixels of the finest maps that it subscribes to, where there are any so coarse (paper: all;
            4 with `preset=paper`). Finer maps take most of a delta's time.
        patchify: the delta sees the picture through one convolution of patches as large as the stride of the first map,
            in place of a stem like the source's (paper), which takes most of a delta's time at high resolution.
        dropout: probability with which an input of the classifier is dropped while training.
        readout: scale with which the classifier reads the mean and deviation of every subscribed channel beside the
            delta's own features and the final ones, whose scale is 1; 0: it does not (paper).
        rank: directions, started as linear discriminants, through which these moments reach the classes, where that
            takes fewer parameters than a weight for each class; 0: a weight for each class.
        subscription: what takes a map's channels, a name in `SUBSCRIPTIONS`.
        pooling: how channel pooling learns its choice.

    Raises:
        SnowError: a ratio outside (0, 1], an unknown subscription.
    """

    width: float = 1 / 16
    keep: float | None = None
    final_keep: float | None = None
    finest: int = 8
    patchify: bool = True
    dropout: float = 0.2
    readout: float = 1.0
    rank: int = 128
    subscription: str = "channel_pooling"
    pooling: PoolingConfig = field(default_factory=PoolingConfig)

    def __post_init__(self) -> None:
        for name in ("width", "keep", "final_keep"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise SnowError(f"{name} is a ratio in (0, 1], not {value}")
        if not 0 <= self.dropout < 1:
            raise SnowError(f"dropout is a probability in [0, 1), not {self.dropout}")
        if not 0 <= self.readout < math.inf:
            raise SnowError(f"readout is a scale, zero or more, not {self.readout}")
        if self.rank < 0:
            raise SnowError(f"rank is a number of directions, zero or more, not {self.rank}")
        if self.subscription not in SUBSCRIPTIONS:
            raise SnowError(f"no subscription {self.subscription!r}: there are {', '.join(SUBSCRIPTIONS)}")

    @classmethod
    def paper(cls, sigma2: float = 1e-3) -> SnowConfig:
        """The paper's delta with Algorithm 1 to the letter."""
        return cls(
            1 / 8, 1 / 8, 1 / 8, 4, False, dropout=0.0, readout=0.0, rank=0, pooling=PoolingConfig.literal(sigma2)
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SnowConfig:
        """Options by name over the defaults, or over `SnowConfig.paper()` with `preset="paper"` among them.

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
        """With what the number of classes decides by default."""
        keep, final_keep = (1 / 4, 1 / 8) if 0 < self.rank < num_classes else (1 / 8, 1 / 2)
        return replace(
            self,
            keep=keep if self.keep is None else self.keep,
            final_keep=final_keep if self.final_keep is None else self.final_keep,
        )


PRESETS = {"default": SnowConfig, "paper": SnowConfig.paper}
"""What options are changes of."""


BEFORE: dict[str, Any] = {"patchify": False, "readout": 0.0, "rank": 0}
"""What tasks were that do not say: they were saved before there was a choice."""

READOUT_RATE = 0.3
EXPAND_RATE = 3.0
"""Learning rates of a delta's directions, which start as discriminants, and of what they say of the classes, which is
new, beside the rest. Picked on held-out training pictures of 196 classes."""


class Snow(Method):
    """Trains a `Delta`; what is saved holds only the channels that were chosen."""

    name: ClassVar[str] = "snow"
    config_class: ClassVar[type | None] = SnowConfig

    def __init__(self, plan: DeltaPlan, num_classes: int, options: SnowConfig, exported: bool = False) -> None:
        super().__init__()
        self.plan, self.num_classes, self.options = plan, num_classes, options
        self.delta = Delta(
            plan,
            num_classes,
            options.subscription,
            options.pooling,
            exported,
            options.dropout,
            options.readout,
            options.rank,
        )

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
        options = SnowConfig.from_dict({**BEFORE, **config["options"]})
        return cls(plan, num_classes, options, exported=True).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {"plan": self.plan.to_dict(), "options": asdict(self.options)}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset(self.delta.taps)

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
        gathered: dict[str, list[Tensor]] = {tap: [] for tap in (*self.delta.taps, FINAL)}
        labels: list[Tensor] = []
        for features, label in batches:
            labels.append(label)
            for tap in gathered:
                x = features.final[:, :, None, None] if tap == FINAL else features.maps[tap]
                gathered[tap].append(moments(x.float()))
        found, label = {tap: torch.cat(parts) for tap, parts in gathered.items()}, torch.cat(labels)
        statistics = {tap: ChannelStatistics.of([each], label) for tap, each in found.items()}
        self.delta.calibrate(statistics)
        self.delta.discriminate(found, label)

    def rate(self, name: str) -> float:
        _, part, *rest = name.split(".")
        return {"readouts": READOUT_RATE, "expand": EXPAND_RATE}[rest[0]] if part == "directions" else 1.0

    def export_form(self) -> Self:
        with torch.device("meta"):  # a shell without weights, which draws no random numbers
            exported = type(self)(self.plan, self.num_classes, self.options, exported=True)
        exported.delta = self.delta.export_form()
        return exported.eval()


def _check_names(values: Mapping[str, Any], of: type[SnowConfig] | type[PoolingConfig]) -> None:
    known = [entry.name for entry in fields(of)]
    for name in values:
        if name not in known:
            raise SnowError(f"method snow has no option {name!r}: there are {', '.join(known)}")
