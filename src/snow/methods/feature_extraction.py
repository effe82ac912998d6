"""FE, feature extraction: a frozen trunk and a narrow last stage that is trained (FixyNN, Whatmough et al., 2019).

Table 5 implies the shape. Three stages of a ResNet-50 stay frozen; the fourth is trained at 1/8 width, with shortcuts
like the source's: 382,208 + 2 * 70,400 parameters, and 257 per class. With the source, five tasks and 584 classes in
all: 25.56 + 5 * 0.523 + 0.150 = 28.3 M, as in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from snow.delta import FAMILIES, make_plan
from snow.delta.family import BlockShape
from snow.delta.plan import Level, scaled
from snow.errors import SnowError
from snow.methods.method import Method, read_options
from snow.methods.trunk import last_map
from snow.source import Features, Source
from snow.subscribe import SubscribedMap


@dataclass(frozen=True)
class FeatureExtractionConfig:
    """The size of the trained stage.

    Attributes:
        width: channels of the trained stage per channel of the source's.

    Raises:
        SnowError: a ratio outside (0, 1].
    """

    width: float = 1 / 8

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise SnowError(f"width is a ratio in (0, 1], not {self.width}")


@dataclass(frozen=True)
class StagePlan:
    """The trained stage as plain data.

    Attributes:
        map: the source's module whose output is the stage's input.
        family: kind of its blocks, a name in `snow.delta.families.FAMILIES`.
        levels: its blocks in order; none of them subscribes to anything.
        features: channels in front of the classifier, for families whose head widens them.
    """

    map: str
    family: str
    levels: tuple[Level, ...]
    features: int


class FeatureExtraction(Method):
    """Classify from one map of the source: (B, N, H, W) -> (B, C), `classifier(mean(head(blocks(map))))`.

    `map` is the last one before the source's coarsest stride. The blocks are of the source's family at `width`, one per
    block of the source at that stride. DenseNet's blocks give few channels each, so its trained stage is very narrow.
    """

    name: ClassVar[str] = "fe"
    config_class: ClassVar[type | None] = FeatureExtractionConfig
    uses_pictures: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False

    def __init__(self, stage: StagePlan, num_classes: int) -> None:
        super().__init__()
        self.stage, self.num_classes = stage, num_classes
        self.blocks = nn.Sequential(*(_PlainBlock(stage.family, level) for level in stage.levels))
        self.head, features = FAMILIES[stage.family].head(stage.levels[-1].out, stage.features)
        self.classifier = nn.Linear(features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: an impossible option, or a source whose taps all have one stride."""
        return cls(_plan_stage(source, read_options(FeatureExtractionConfig, config, cls.name).width), num_classes)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        levels = tuple(Level(**level) for level in config["levels"])
        return cls(StagePlan(config["map"], config["family"], levels, config["features"]), num_classes).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {**asdict(self.stage), "levels": [asdict(level) for level in self.stage.levels]}

    @property
    def taps(self) -> frozenset[str]:
        return frozenset({self.stage.map})

    def forward(self, features: Features) -> Tensor:
        return self.classifier(self.head(self.blocks(features.maps[self.stage.map])).mean((2, 3)))


class _PlainBlock(nn.Module):
    """A delta's block without a subscription: (B, own, H, W) -> (B, out, H/stride, W/stride).

    It has an identity shortcut where the source's block has one.
    """

    def __init__(self, family: str, level: Level) -> None:
        super().__init__()
        self.block = FAMILIES[family].block(level, weight_columns=0, width=0)
        if level.own == level.out and level.stride == 1 and hasattr(self.block, "shortcut"):
            self.block.shortcut, self.block.shortcut_norm = _IdentityShortcut(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, SubscribedMap(x[:, :0], None))


class _IdentityShortcut(nn.Module):
    """Replaces the projection shortcut of a delta's block: returns the own map."""

    def forward(self, own: Tensor, subscribed: SubscribedMap) -> Tensor:
        return own


def _plan_stage(source: Source, width: float) -> StagePlan:
    """Plan the stage at the source's coarsest stride.

    Where all maps have one stride, as those of most transformers, it takes the place of the last quarter of the blocks.
    Raises SnowError if there is only one map.
    """
    coarsest = max(tap.stride for tap in source.taps)
    blocks = [tap for tap in source.taps if tap.stride == coarsest]
    if len(blocks) == len(source.taps) and source.gives_tokens:
        blocks = blocks[-max(1, len(blocks) // 4) :]
    before = list(source.taps[: source.taps.index(blocks[0])])
    if not before:
        raise SnowError(f"method fe needs a map of {source.name} that is finer than stride {coarsest}: offer more taps")
    name, own, stride = last_map(source, before[-1], blocks)
    plan = make_plan(source, width, keep=1, final_keep=1)
    family = FAMILIES[plan.family]
    levels: list[Level] = []
    for tap in blocks:
        shape = family.shape(source.cnn.get_submodule(tap.block), tap.channels)
        shape = shape or BlockShape(tap.channels, tap.channels, 3)
        out, hidden = scaled(shape.out, width), scaled(shape.hidden, width)
        levels.append(Level("", 0, 0, own, out, hidden, shape.kernel, stride))
        own, stride = out, 1
    return StagePlan(name, plan.family, tuple(levels), plan.features)
