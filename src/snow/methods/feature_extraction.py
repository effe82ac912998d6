"""FE, feature extraction: a frozen trunk and a narrow last stage that learns (FixyNN, Whatmough et al., 2019).

The shape is the one that Table 5 implies. Of a ResNet-50 it keeps three stages and learns the fourth at 1/8 width, with
the source's own shortcuts: 382,208 + 2 · 70,400 parameters, and 257 for each class. With five tasks of 584 classes in
all, beside the source: 25.56 + 5 · 0.523 + 0.150 = 28.3 M, as in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snow.delta import FAMILIES, make_plan
from snow.delta.family import BlockShape
from snow.delta.plan import Level, scaled
from snow.errors import SnowError
from snow.methods.method import Method, read_options
from snow.source import Features, Source, Tap
from snow.subscribe import Subscribed


@dataclass(frozen=True)
class FeatureExtractionConfig:
    """`width`: channels of the learned stage for each channel of the source's.

    Raises:
        SnowError: a ratio outside (0, 1].
    """

    width: float = 1 / 8

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise SnowError(f"width is a ratio in (0, 1], not {self.width}")


@dataclass(frozen=True)
class Stage:
    """The learned stage as plain data.

    Attributes:
        map: the source's module whose output goes in, whole.
        family: what the blocks are, see `snow.delta.families`.
        levels: its blocks in order; none of them subscribes to anything.
        features: channels that the family's head gives the classifier, if it has one that widens them.
    """

    map: str
    family: str
    levels: tuple[Level, ...]
    features: int


class FeatureExtraction(Method):
    """`logits = classifier(mean(head(blocks(map))))`, where `map` is the last one before the source's coarsest stride.

    The blocks are those of the source's family at `width`, one for each of the source's blocks at that stride.
    DenseNet's blocks give few channels each, which makes its learned stage very narrow.
    """

    name: ClassVar[str] = "fe"
    config_class: ClassVar[type | None] = FeatureExtractionConfig
    uses_pictures: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False

    def __init__(self, stage: Stage, num_classes: int) -> None:
        super().__init__()
        self.stage, self.num_classes = stage, num_classes
        self.blocks = nn.Sequential(*(_Alone(stage.family, level) for level in stage.levels))
        self.head, features = FAMILIES[stage.family].head(stage.levels[-1].out, stage.features)
        self.classifier = nn.Linear(features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: an impossible option, or a source whose taps all have one stride."""
        return cls(_plan(source, read_options(FeatureExtractionConfig, config, cls.name).width), num_classes)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        levels = tuple(Level(**level) for level in config["levels"])
        return cls(Stage(config["map"], config["family"], levels, config["features"]), num_classes).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {**asdict(self.stage), "levels": [asdict(level) for level in self.stage.levels]}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset({self.stage.map})

    def forward(self, features: Features) -> Tensor:
        return self.classifier(self.head(self.blocks(features.maps[self.stage.map])).mean((2, 3)))


class _Alone(nn.Module):
    """A block of a delta that subscribes to nothing, and so needs no projection where the source has none."""

    def __init__(self, family: str, level: Level) -> None:
        super().__init__()
        self.block = FAMILIES[family].block(level, weight_columns=0, width=0)
        if level.own == level.out and level.stride == 1 and hasattr(self.block, "shortcut"):
            self.block.shortcut, self.block.shortcut_norm = _Unprojected(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, own, H, W) -> (B, out, H/stride, W/stride)."""
        return self.block(x, Subscribed(x[:, :0], None))


class _Unprojected(nn.Module):
    """Stands where a block of a delta has its projection shortcut."""

    def forward(self, own: Tensor, subscribed: Subscribed) -> Tensor:
        return own


def _plan(source: Source, width: float) -> Stage:
    coarsest = max(tap.stride for tap in source.taps)
    blocks = [tap for tap in source.taps if tap.stride == coarsest]
    before = list(source.taps[: source.taps.index(blocks[0])])
    if not before:
        raise SnowError(f"method fe needs a map of {source.name} that is finer than stride {coarsest}: offer more taps")
    name, own, stride = _last_map(source, before[-1], blocks)
    plan = make_plan(source, width, keep=1, final_keep=1)
    family = FAMILIES[plan.family]
    levels: list[Level] = []
    for tap in blocks:
        shape = family.shape(source.cnn.get_submodule(tap.block), tap.channels)
        shape = shape or BlockShape(tap.channels, tap.channels, 3)
        out, hidden = scaled(shape.out, width), scaled(shape.hidden, width)
        levels.append(Level("", 0, 0, own, out, hidden, shape.kernel, stride))
        own, stride = out, 1
    return Stage(name, plan.family, tuple(levels), plan.features)


def _last_map(source: Source, last: Tap, blocks: Sequence[Tap]) -> tuple[str, int, int]:
    """Name and channels of the map before the stage, and the stride from there to the stage.

    It is the output of the last block before the stage, even where the tap is a wide map inside that block. Where
    several blocks make parts of one map (DenseNet), it is the whole.
    """
    name = last.block if last.name.startswith(f"{last.block}.") else last.name
    parts = name.split(".")
    holders = [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
    holders = [holder for holder in holders if not any(tap.block.startswith(f"{holder}.") for tap in blocks)]
    shapes = _shapes(source, [name, *holders, blocks[0].name])
    _, own, side = shapes[name][:3]
    for holder in holders:
        if shapes.get(holder, (0, 0, 0))[2] == side and shapes[holder][1] > own:
            name, own = holder, shapes[holder][1]
    return name, own, max(1, round(side / shapes[blocks[0].name][2]))


def _shapes(source: Source, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of the (B, C, H, W) maps among the outputs of these modules of the source."""
    shapes: dict[str, tuple[int, ...]] = {}

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                shapes[name] = tuple(output.shape)

        return source.cnn.get_submodule(name).register_forward_hook(record)

    handles = [listen(name) for name in names]
    size = source.preprocessing.image_size
    try:
        source(torch.zeros(1, 3, size, size, device=next(source.buffers()).device), taps=())
    finally:
        for handle in handles:
            handle.remove()
    return shapes
