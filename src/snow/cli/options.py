"""Options that several commands share. Those of recipes and methods come from the dataclasses themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, Token

from snow.errors import SnowError
from snow.methods import SnowConfig
from snow.subscribe import PoolingConfig


def _names(_type: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(name.strip() for token in tokens for name in token.value.split(",") if name.strip())


def _numbers(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(_type, tokens))
    except ValueError:
        raise SnowError(f"{tokens[0].keyword} takes whole numbers such as 10,20, not {tokens[0].value!r}") from None


Names = Annotated[tuple[str, ...], Parameter(converter=_names, n_tokens=1, show_default=False)]
"""`a,b`, or the option several times."""

Numbers = Annotated[tuple[int, ...], Parameter(converter=_numbers, n_tokens=1)]

Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
"""Whether the standard output should hold JSON and nothing else."""

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""Given or not."""

SOURCE = Group("Source", sort_key=1)
RECIPE = Group("Recipe", sort_key=2)
SNOW = Group("Method snow", sort_key=3)


@dataclass(frozen=True)
class SourceOptions:
    """Which frozen CNN.

    Attributes:
        source: embedded, the name of a timm model, or torchvision/NAME; by default what the hub has, else embedded.
        weights: file with the CNN's weights (.safetensors, .pth), in place of its pretrained ones.
        pretrained: with the weights that its library offers; otherwise random ones.
        image_size: side of the pictures in pixels; by default what the hub has, else the CNN's own.
        resize: how a picture becomes a square. crop cuts its centre out, so that the ends of a long one are lost; pad
            fits all of it in and fills the rest; squash changes its shape. By default what the hub has, else crop.
        taps: feature maps to offer, names or patterns as `snow taps` shows them, with commas between.
        without_taps: feature maps to leave out.
    """

    source: str | None = None
    weights: Path | None = None
    pretrained: bool = True
    image_size: int | None = None
    resize: Literal["crop", "pad", "squash"] | None = None
    taps: Names = ()
    without_taps: Names = ()


@dataclass(frozen=True)
class SnowOptions(SnowConfig):
    """`SnowConfig` with the options of its pooling beside the others."""

    pooling: Annotated[PoolingConfig, Parameter(name="*")] = field(default_factory=PoolingConfig)
