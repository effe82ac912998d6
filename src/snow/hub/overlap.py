"""Compare the channel selections of tasks: intersection over union, and its value by chance.

Shape letters: T tasks, R of them that are compared with all, N channels of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb
from typing import Any

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub.hub import Hub

Masks = Mapping[str, Tensor]
"""Tap -> (N,) of bool: the channels that a task selects."""


@dataclass(frozen=True)
class TapOverlap:
    """The overlaps of R tasks with T tasks at one tap; those of tasks without the tap are 0 / 0.

    Attributes:
        both: (R, T), channels that two tasks share.
        either: (R, T), channels that at least one of two tasks selects.
        chance: (R, T), expected `both / either` if both tasks selected as many channels at random.
    """

    both: Tensor
    either: Tensor
    chance: Tensor


class Overlaps:
    """The overlaps of R tasks with T tasks at all taps, computed by one matrix product per tap.

    Args:
        masks: task -> its selection. Maps of one tap that differ in size are not compared.
        compared: the R tasks; by default all T.

    Attributes:
        names, compared: the T and the R tasks.
        iou, chance: (R, T), means over the common taps; NaN where there is none.
    """

    def __init__(self, masks: Mapping[str, Masks], compared: Sequence[str] | None = None) -> None:
        self.names = list(masks)
        self.compared = self.names if compared is None else list(compared)
        rows = [self.names.index(name) for name in self.compared] if compared is not None else slice(None)
        sizes = {tap: len(mask) for by_tap in masks.values() for tap, mask in by_tap.items()}
        self.taps = {
            tap: _at_tap(torch.stack([_of_size(masks[name].get(tap), size) for name in masks]), rows)
            for tap, size in sizes.items()
        }
        zeros = torch.zeros(len(self.compared), len(self.names), dtype=torch.float64)
        self._common, self.iou, self.chance = zeros.clone(), zeros.clone(), zeros.clone()
        for overlap in self.taps.values():
            has_tap = overlap.either > 0
            self._common += has_tap
            self.iou += torch.where(has_tap, overlap.both / overlap.either, 0.0)
            self.chance += overlap.chance
        self.iou /= self._common
        self.chance /= self._common

    def pair(self, first: int, second: int) -> dict[str, Any]:
        """Describe a pair of tasks, by their places in `compared` and `names`, as JSON values.

        Returns:
            `{"taps": {TAP: {"both", "either", "iou", "chance"}}, "iou", "chance"}`; `iou` and `chance` of the pair are
            means over its taps.
        """
        taps = {}
        for tap, overlap in self.taps.items():
            both, either = int(overlap.both[first, second]), int(overlap.either[first, second])
            if either:
                chance_here = float(overlap.chance[first, second])
                taps[tap] = {"both": both, "either": either, "iou": both / either, "chance": chance_here}
        return {"taps": taps, "iou": float(self.iou[first, second]), "chance": float(self.chance[first, second])}

    def closest(self) -> Iterator[tuple[int, int]]:
        """Iterate over the pairs of tasks, as places in `names`, the largest overlap first."""
        first, second = torch.triu_indices(len(self.names), len(self.names), 1)
        order = self.iou[first, second].nan_to_num(-1.0).argsort(descending=True, stable=True)
        yield from zip(first[order].tolist(), second[order].tolist(), strict=True)

    def require_common(self) -> None:
        """Raise SnowError if two tasks have no tap in common."""
        apart = (self._common == 0).nonzero().tolist()
        if apart:
            first, second = (self.names[index] for index in apart[0])
            raise SnowError(f"tasks {first} and {second} have no tap in common")

    def to_dict(self) -> dict[str, Any]:
        """Describe all pairs: `{"tasks": names, "pairs": [{"tasks": [a, b], "taps", "iou", "chance"}]}`."""
        places = combinations(range(len(self.names)), 2)
        pairs = [{"tasks": [self.names[a], self.names[b]], **self.pair(a, b)} for a, b in places]
        return {"tasks": self.names, "pairs": pairs}


def overlaps(hub: Hub, tasks: Sequence[str] = ()) -> Overlaps:
    """Compare the channels that tasks select at inference, for each pair of tasks and each tap.

    Args:
        tasks: by default all tasks of the hub that can answer and select channels; the log names broken ones, without
            which there may be no pair left.

    Raises:
        SnowError: fewer than two tasks, a task that is unknown or broken, one that selects no channels, or two without
            a common tap.
    """
    masks = {name: hub.task(name).method.selected_mask() for name in tasks or hub.tasks.sound()}
    unselective = [name for name, by_tap in masks.items() if not by_tap]
    if tasks and unselective:
        name = unselective[0]
        raise SnowError(f"task {name} selects no channels: its method is {hub.task(name).method.name}")
    selective = {name: by_tap for name, by_tap in masks.items() if by_tap}
    if len(selective) < 2 and (tasks or not hub.broken()):
        raise SnowError(
            f"overlap needs two tasks that select channels; hub {hub.path} has {', '.join(selective) or 'none'}"
        )
    results = Overlaps(selective)
    results.require_common()
    return results


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


def _of_size(mask: Tensor | None, channels: int) -> Tensor:
    """Return a mask as numbers: (N,) of float32; zeros if it is missing or of another size."""
    return mask.float().cpu() if mask is not None and len(mask) == channels else torch.zeros(channels)


def _at_tap(masks: Tensor, rows: list[int] | slice) -> TapOverlap:
    """Compare some masks with all of them: (T, N) -> the overlaps (R, T)."""
    channels, selected = masks.shape[1], masks.sum(1).long()
    both = (masks[rows] @ masks.T).long()
    either = selected[rows][:, None] + selected - both
    either = torch.where((selected[rows] > 0)[:, None] & (selected > 0), either, 0)
    counts, place = selected.unique(return_inverse=True)
    table = [[chance(channels, a, b) if a and b else 0.0 for b in counts.tolist()] for a in counts.tolist()]
    return TapOverlap(both, either, torch.tensor(table, dtype=torch.float64)[place[rows]][:, place])
