"""The families of deltas, most particular first, and the plan of a delta for a source."""

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


def make_plan(
    source: Source, width: float, keep: float, final_keep: float, finest: int = 4, patchify: bool = False
) -> DeltaPlan:
    """The delta of the paper for `source`: its likeness at `width`, subscribing to `keep` of each map.

    Level i takes the source's i-th map and does what the source's next block does, so that its own map and the
    source's next one meet at one resolution. The classifier takes `final_keep` of the source's final features, so
    the last map needs no level of its own, unless it is the only one. Maps finer than a stride of `finest` pixels are
    left out where there are coarser ones: a delta would spend most of its time on them. With `patchify` it sees the
    picture through one convolution of patches as large as the stride of the first map (Liu et al., 2022).
    """
    taps = sorted(_affordable(source.taps, finest), key=lambda tap: tap.stride)
    family = _family_of(source, taps)
    shapes = [_shape(source, tap, FAMILIES[family]) for tap in taps]
    levels: list[Level] = []
    own = stem = scaled(convolutions(source.cnn)[0].out_channels, width)
    for tap, following, shape in zip(taps, taps[1:] or taps, shapes[1:] or shapes, strict=False):
        out, hidden = scaled(shape.out, width), scaled(shape.hidden, width)
        stride = following.stride // tap.stride
        keeps = kept(tap.channels, keep)
        levels.append(Level(tap.name, tap.channels, keeps, own, out, hidden, shape.kernel, stride))
        own = out
    features, final = scaled(source.num_features, width), kept(source.num_features, final_keep)
    return DeltaPlan(family, stem, taps[0].stride, tuple(levels), features, source.num_features, final, patchify)


def _affordable(taps: Sequence[Tap], finest: int) -> Sequence[Tap]:
    coarsest = max(tap.stride for tap in taps)
    return [tap for tap in taps if tap.stride >= min(finest, coarsest)]


def _family_of(source: Source, taps: Sequence[Tap]) -> str:
    """The first family that most of the blocks belong to."""
    for name, family in FAMILIES.items():
        fitting = sum(family.shape(source.cnn.get_submodule(tap.block), tap.channels) is not None for tap in taps)
        if fitting > len(taps) / 2:
            return name
    raise AssertionError("the general family fits every block")


def _shape(source: Source, tap: Tap, family: type[Family]) -> BlockShape:
    shape = family.shape(source.cnn.get_submodule(tap.block), tap.channels)
    return shape or BlockShape(tap.channels, tap.channels, 3)
