"""The shapes of a delta: taps and ratios in, numbers out. Plain data, so that an artefact can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from snow.errors import SnowError


@dataclass(frozen=True)
class Level:
    """One step of a delta: `block(concat(own, subscribed))` at one tap, on the way to the next.

    Attributes:
        tap: the source's map it subscribes to, of `channels` channels, of which `keep` are taken.
        own: channels of the delta that come in.
        out: channels of the delta that go out, at 1/`stride` of the resolution.
        hidden: channels inside the block.
        kernel: side of its spatial convolution.
    """

    tap: str
    channels: int
    keep: int
    own: int
    out: int
    hidden: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class DeltaPlan:
    """A whole delta.

    Attributes:
        family: what its blocks are, see `snow.delta.families`.
        stem: channels before the first level, at `stem_stride` to the picture.
        levels: in order, from fine maps to coarse ones.
        features: channels of the delta that its classifier sees, where the family has a head that widens them.
        final: width of the source's final features, of which the classifier takes `final_keep`.
        patchify: the stem is one convolution, whose kernel and stride are both `stem_stride`, whatever the family.
    """

    family: str
    stem: int
    stem_stride: int
    levels: tuple[Level, ...]
    features: int
    final: int
    final_keep: int
    patchify: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "levels": [asdict(level) for level in self.levels]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeltaPlan:
        """Raises SnowError: a key is missing or unknown."""
        try:
            levels = tuple(Level(**level) for level in values["levels"])
            return cls(levels=levels, **{key: value for key, value in values.items() if key != "levels"})
        except (TypeError, KeyError) as error:
            raise SnowError(f"this delta's plan cannot be read: {error}") from error


def scaled(channels: int, ratio: float) -> int:
    """`channels · ratio`, rounded to a multiple of 8 and at least 8: narrower gains no speed anywhere."""
    return max(8, 8 * round(channels * ratio / 8))


def kept(channels: int, ratio: float) -> int:
    """K of N: `channels · ratio`, at least one and at most all."""
    return min(channels, max(1, round(channels * ratio)))
