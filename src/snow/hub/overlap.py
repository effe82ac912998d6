"""Compare the channel selections of tasks: intersection over union, and its value by chance."""

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
    """Compare the channels that tasks select at inference, for each pair of tasks and each tap.

    Args:
        tasks: by default all tasks of the hub that select channels.

    Returns:
        `{"tasks": names, "pairs": [{"tasks": [a, b], "taps": {TAP: {"both", "either", "iou", "chance"}}, "iou",
        "chance"}]}` as JSON values: `both` and `either` count channels, `iou` is `both / either`, and `chance` its
        expected value if both tasks selected as many channels at random. Those of a pair are means over its taps.

    Raises:
        SnowError: fewer than two tasks, an unknown task, one that selects no channels, or two without a common tap.
    """
    masks = {name: hub.task(name).method.selected_mask() for name in tasks or hub.names()}
    unselective = [name for name, by_tap in masks.items() if not by_tap]
    if tasks and unselective:
        name = unselective[0]
        raise SnowError(f"task {name} selects no channels: its method is {hub.task(name).method.name}")
    names = [name for name in masks if name not in unselective]
    if len(names) < 2:
        raise SnowError(
            f"overlap needs two tasks that select channels; hub {hub.path} has {', '.join(names) or 'none'}"
        )
    return {"tasks": names, "pairs": [_pair(a, b, masks[a], masks[b]) for a, b in combinations(names, 2)]}


@cache
def chance(channels: int, first: int, second: int) -> float:
    """Expected intersection over union of `first` and `second` channels drawn at random from `channels`.

    The intersection `both` is hypergeometric: P(both) = C(first, both) C(channels - first, second - both) / C(channels,
    second).
    """
    ways = comb(channels, second)
    return sum(
        comb(first, both) * comb(channels - first, second - both) / ways * both / (first + second - both)
        for both in range(max(1, first + second - channels), min(first, second) + 1)
    )


def compare_masks(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Any]:
    """Compare the masks of two tasks, tap -> (N,) bool, at their common taps: `taps`, `iou` and `chance`."""
    taps = {tap: _compared(a[tap], b[tap]) for tap in a if tap in b}
    return {"taps": taps, **{key: fmean(entry[key] for entry in taps.values()) for key in ("iou", "chance")}}


def _pair(first: str, second: str, a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Any]:
    if not a.keys() & b.keys():
        raise SnowError(f"tasks {first} and {second} have no tap in common")
    return {"tasks": [first, second], **compare_masks(a, b)}


def _compared(a: Tensor, b: Tensor) -> dict[str, Any]:
    both, either = int((a & b).sum()), int((a | b).sum())
    return {"both": both, "either": either, "iou": both / either, "chance": chance(len(a), int(a.sum()), int(b.sum()))}
