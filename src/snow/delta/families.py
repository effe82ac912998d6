"""The registry of delta families, and the plan of a delta for a source."""

from __future__ import annotations

from collections.abc import Sequence

from snow.delta.family import BlockShape, Family, convolutions
from snow.delta.general import General
from snow.delta.mbconv import MBConv
from snow.delta.plan import DeltaPlan, Level, kept, scaled
from snow.delta.resnet import Basic, Bottleneck
from snow.source import Source, Tap

FAMILIES: dict[str, type[Family]] = {
    "bottleneck": Bottleneck,
    "basic": Basic,
    "mbconv": MBConv,
    "general": General,
}
"""By name, the most specific first: the first family that fits most blocks of a source is used."""


def make_plan(
    source: Source, width: float, keep: float, final_keep: float | None, finest: int = 4, patchify: bool = False
) -> DeltaPlan:
    """Plan the delta of a source: the same architecture with fewer channels (paper, section 2.1).

    Level i subscribes to the source's i-th map and does what the source's next block does. Its output and the source's
    next map then have the same resolution. The last map needs no level unless it is the only one, because the
    classifier reads the source's final features.

    Args:
        width: channels of the delta per channel of the source.
        keep: K / N at each tap.
        final_keep: K / N of the final features; None: they are not read.
        finest: stride in pixels of the finest maps to subscribe to; finer ones are skipped where coarser ones exist.
        patchify: use one convolution over patches, as large as the stride of the first map, as the stem (Liu et al.,
            ConvNeXt, 2022).
    """
    taps = sorted(_coarse_enough(source.taps, finest), key=lambda tap: tap.stride)
    family = _family_of(source, taps)
    shapes = [_shape(source, tap, FAMILIES[family]) for tap in taps]
    levels: list[Level] = []
    own = stem = scaled(_first_width(source), width)
    for tap, next_tap, next_shape in zip(taps, taps[1:] or taps, shapes[1:] or shapes, strict=False):
        out, hidden = scaled(next_shape.out, width), scaled(next_shape.hidden, width)
        stride = round(next_tap.stride / tap.stride)
        level_keep = kept(tap.channels, keep)
        levels.append(Level(tap.name, tap.channels, level_keep, own, out, hidden, next_shape.kernel, stride))
        own = out
    features = scaled(source.num_features, width)
    final = 0 if final_keep is None else kept(source.num_features, final_keep)
    return DeltaPlan(family, stem, taps[0].stride, tuple(levels), features, source.num_features, final, patchify)


def _first_width(source: Source) -> int:
    """Return the channels behind the first convolution, or those of the first map where there is no convolution."""
    found = convolutions(source.cnn)
    return found[0].out_channels if found else source.taps[0].channels


def _coarse_enough(taps: Sequence[Tap], finest: int) -> Sequence[Tap]:
    coarsest = max(tap.stride for tap in taps)
    return [tap for tap in taps if tap.stride >= min(finest, coarsest)]


def _family_of(source: Source, taps: Sequence[Tap]) -> str:
    """Find the first family that more than half of the tapped blocks belong to."""
    for name, family in FAMILIES.items():
        fitting = sum(family.shape(source.cnn.get_submodule(tap.block), tap.channels) is not None for tap in taps)
        if fitting > len(taps) / 2:
            return name
    raise AssertionError("the general family fits every block")


def _shape(source: Source, tap: Tap, family: type[Family]) -> BlockShape:
    shape = family.shape(source.cnn.get_submodule(tap.block), tap.channels)
    return shape or BlockShape(tap.channels, tap.channels, 3)
