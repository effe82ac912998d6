"""The shapes of a delta as plain data, so that an artefact can hold them as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snow.errors import SnowError


@dataclass(frozen=True)
class Level:
    """One level of a delta: `block(concat(own, subscribed))`, (B, own + keep, H, W) -> (B, out, H/stride, W/stride).

    Attributes:
        tap: the source's map it subscribes to.
        channels: N, channels of that map.
        keep: K, channels that pass.
        own: channels of the delta's input.
        out: channels of the delta's output.
        hidden: channels inside the block.
        kernel: side of its spatial convolution.
        stride: by which the block reduces the resolution.
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
    """All levels of a delta, and the shapes before and after them.

    Attributes:
        family: kind of its blocks, a name in `snow.delta.families.FAMILIES`.
        stem: channels in front of the first level.
        stem_stride: stride of the stem in pixels.
        levels: in order, from fine to coarse maps.
        features: channels in front of the classifier, for families whose head widens them.
        final: D, width of the source's final features.
        final_keep: K of the final features, which the classifier reads.
        patchify: the stem is one convolution with kernel and stride `stem_stride`, whatever the family.
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
        """Convert to JSON values."""
        return {**vars(self), "levels": [dict(vars(level)) for level in self.levels]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeltaPlan:
        """Read the result of `to_dict`. Raises SnowError if a key is missing or unknown."""
        try:
            levels = tuple(Level(**level) for level in values["levels"])
            return cls(levels=levels, **{key: value for key, value in values.items() if key != "levels"})
        except (TypeError, KeyError) as error:
            raise SnowError(f"the delta's plan cannot be read: {error}") from error


def scaled(channels: int, ratio: float) -> int:
    """Compute `channels * ratio`, rounded to a multiple of 8 and at least 8: narrower layers are no faster."""
    return max(8, 8 * round(channels * ratio / 8))


def kept(channels: int, ratio: float) -> int:
    """Compute K = `channels * ratio`, rounded, between 1 and N."""
    return min(channels, max(1, round(channels * ratio)))
