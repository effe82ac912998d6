"""Options that several commands share. This file does not import torch, so that `snow hub list` answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, Token

from snow.errors import SnowError


def _names(_type: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(name.strip() for token in tokens for name in token.value.split(",") if name.strip())


def _numbers(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(_type, tokens))
    except ValueError:
        raise SnowError(f"{tokens[0].keyword} takes whole numbers such as 10,20, not {tokens[0].value!r}") from None


Names = Annotated[tuple[str, ...], Parameter(converter=_names, n_tokens=1, show_default=False)]
"""Names as `a,b`, or the option several times."""

Numbers = Annotated[tuple[int, ...], Parameter(converter=_numbers, n_tokens=1)]

Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
"""Print JSON and nothing else on stdout."""

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""An option without a value."""

SOURCE = Group("Source", sort_key=1)
RECIPE = Group("Recipe", sort_key=2)
RUNTIME = Group("Runtime", sort_key=3)
SNOW = Group("Method snow", sort_key=4)


@dataclass(frozen=True)
class SourceOptions:
    """Options of the frozen CNN.

    Attributes:
        source: embedded, embedded:lite1, the name of a timm model, torchvision/NAME, or hf:OWNER/NAME,
            hf:OWNER/NAME@REVISION or hf:FOLDER for a model of transformers; by default that of the hub, or embedded.
        weights: file with the CNN's weights (.safetensors, .pth), instead of the pretrained ones.
        pretrained: load the pretrained weights of its library; otherwise weights are random.
        image_size: side of the pictures in pixels; by default that of the hub, or the source's own. auto, in `snow
            train`, measures the source's own, three quarters and half of it, and takes the smallest that is as good.
        resize: how a picture becomes a square. crop cuts out its centre, so that the ends of a long one are lost; pad
            fits all of it in and fills the rest; squash changes its shape. By default as in the hub, or as the source
            was trained: crop, and squash for some of transformers.
        taps: feature maps that tasks may use, names or patterns as `snow taps` shows them, separated by commas.
        without_taps: feature maps to leave out.
    """

    source: str | None = None
    weights: Path | None = None
    pretrained: bool = True
    image_size: int | Literal["auto"] | None = None
    resize: Literal["crop", "pad", "squash"] | None = None
    taps: Names = ()
    without_taps: Names = ()
