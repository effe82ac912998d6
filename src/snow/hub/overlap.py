"""How far tasks take the same channels of their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from math import comb
from statistics import fmean
from typing import Any

from torch import Tensor

from snow.errors import SnowError
from snow.hub.hub import Hub


def overlap(hub: Hub, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Compares the channels that tasks take when they answer, for each two of them and each tap.

    Args:
        tasks: by default all of the hub that choose channels.

    Returns:
        `{"tasks": names, "pairs": [{"tasks": [a, b], "taps": {TAP: {"both", "either", "iou", "chance"}}, "iou",
        "chance"}]}` as JSON values: `both` and `either` count channels, `iou` is the one over the other, `chance` what
        `iou` would be on average if both chose as many at random; those of a pair are means over its taps.

    Raises:
        SnowError: fewer than two tasks, an unknown one, one that chooses no channels, two that share no tap.
    """
    taken = {name: hub.task(name).method.selected_mask() for name in tasks or hub.names()}
    silent = [name for name, masks in taken.items() if not masks]
    if tasks and silent:
        raise SnowError(f"task {silent[0]} chooses no channels: it was learned by {hub.task(silent[0]).method.name}")
    names = [name for name in taken if name not in silent]
    if len(names) < 2:
        raise SnowError(f"two tasks that choose channels can overlap; hub {hub.path} has {', '.join(names) or 'none'}")
    return {"tasks": names, "pairs": [_pair(a, b, taken[a], taken[b]) for a, b in combinations(names, 2)]}


@cache
def chance(channels: int, first: int, second: int) -> float:
    """Intersection over union, on average, of `first` and `second` of `channels` channels, both taken at random."""
    ways = comb(channels, second)
    return sum(
        comb(first, both) * comb(channels - first, second - both) / ways * both / (first + second - both)
        for both in range(max(1, first + second - channels), min(first, second) + 1)
    )


def compare_masks(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Any]:
    """What two tasks take, by tap (N,) of bool, at the taps where both choose: `taps`, `iou` and `chance` as above."""
    taps = {tap: _compared(a[tap], b[tap]) for tap in a if tap in b}
    return {"taps": taps, **{key: fmean(entry[key] for entry in taps.values()) for key in ("iou", "chance")}}


def _pair(first: str, second: str, a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Any]:
    if not a.keys() & b.keys():
        raise SnowError(f"tasks {first} and {second} choose at no tap in common")
    return {"tasks": [first, second], **compare_masks(a, b)}


def _compared(a: Tensor, b: Tensor) -> dict[str, Any]:
    both, either = int((a & b).sum()), int((a | b).sum())
    return {"both": both, "either": either, "iou": both / either, "chance": chance(len(a), int(a.sum()), int(b.sum()))}
