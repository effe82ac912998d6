"""Compare the channel selections of tasks: intersection over union, and its value by chance.

Shape letters: T tasks, R of them that are compared with all, N channels of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub.hub import Hub

MAX_DEVIATIONS = 12
"""Standard deviations from its mean, and as many channels beyond, within which an intersection is counted."""

ROWS_AT_ONCE = 16
"""Rows of a table that are computed together: their terms take a few megabytes."""

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


class Selections:
    """The channels that T tasks select, as one matrix (T, N) per tap.

    Args:
        masks: task -> its selection. Of maps of one tap that differ in size, those of one size are compared.
    """

    def __init__(self, masks: Mapping[str, Masks]) -> None:
        self.names = list(masks)
        self.places = {name: place for place, name in enumerate(masks)}
        sizes = {tap: len(mask) for by_tap in masks.values() for tap, mask in by_tap.items()}
        self.taps = {
            tap: torch.stack([_of_size(masks[name].get(tap), size) for name in masks]) for tap, size in sizes.items()
        }


class Overlaps:
    """The overlaps of R tasks with T tasks at all taps, computed by one matrix product per tap.

    Args:
        compared: the R tasks; by default all T.

    Attributes:
        names, compared: the T and the R tasks.
        iou, chance: (R, T), means over the common taps; NaN where there is none.
    """

    def __init__(self, selections: Selections, compared: Sequence[str] | None = None) -> None:
        self.names = selections.names
        self.compared = self.names if compared is None else list(compared)
        rows = slice(None) if compared is None else [selections.places[name] for name in compared]
        self.taps = {tap: _at_tap(masks, rows) for tap, masks in selections.taps.items()}
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
    masks = {name: hub.task(name).method.selected_mask() for name in tasks or hub.tasks.usable()}
    unselective = [name for name, by_tap in masks.items() if not by_tap]
    if tasks and unselective:
        name = unselective[0]
        raise SnowError(f"task {name} selects no channels: its method is {hub.task(name).method.name}")
    selective = {name: by_tap for name, by_tap in masks.items() if by_tap}
    if len(selective) < 2 and (tasks or not hub.broken()):
        raise SnowError(
            f"overlap needs two tasks that select channels; hub {hub.path} has {', '.join(selective) or 'none'}"
        )
    results = Overlaps(Selections(selective))
    results.require_common()
    return results


def chance(channels: int, first: Tensor, second: Tensor) -> Tensor:
    """Expected intersection over union of a and b channels drawn at random from N: (R,) of a and (T,) of b -> (R, T).

    The intersection x is hypergeometric: P(x) = C(a, x) C(N - a, b - x) / C(N, b), with mean a b / N. Far from the mean
    P(x) is below the precision of float64 and left out.

    Args:
        channels: N.
    """
    a, b = first[:, None, None].double(), second[None, :, None].double()
    mean = a * b / channels
    variance = mean * (channels - a) * (channels - b) / max(1, channels * (channels - 1))
    reach = int(MAX_DEVIATIONS * float(variance.max().sqrt())) + MAX_DEVIATIONS if variance.numel() else 0
    x = mean.round() + torch.arange(-reach, reach + 1, dtype=torch.float64)
    is_possible = (x >= (a + b - channels).clamp(min=0)) & (x <= torch.minimum(a, b))
    x = torch.where(is_possible, x, torch.minimum(a, b))
    ways = _log_comb(a, x) + _log_comb(channels - a, b - x) - _log_comb(torch.full_like(b, channels), b)
    overlap = torch.where(a + b > 0, x / (a + b - x).clamp(min=1), 0.0)
    return torch.where(is_possible, ways.exp() * overlap, 0.0).sum(2)


def _log_comb(total: Tensor, part: Tensor) -> Tensor:
    return torch.lgamma(total + 1) - torch.lgamma(part + 1) - torch.lgamma(total - part + 1)


def _chance_by_count(channels: int, first: Tensor, second: Tensor) -> Tensor:
    """Compute `chance` once for each pair of numbers that occurs: (R,) and (T,) -> (R, T)."""
    rows, row = first.unique(return_inverse=True)
    columns, column = second.unique(return_inverse=True)
    table = torch.cat([chance(channels, part, columns) for part in rows.split(ROWS_AT_ONCE)])
    return table[row][:, column]


def _of_size(mask: Tensor | None, channels: int) -> Tensor:
    """Return a mask as numbers: (N,) of float32; zeros if it is missing or of another size."""
    return mask.float().cpu() if mask is not None and len(mask) == channels else torch.zeros(channels)


def _at_tap(masks: Tensor, rows: list[int] | slice) -> TapOverlap:
    """Compare some masks with all of them: (T, N) -> the overlaps (R, T)."""
    channels, selected = masks.shape[1], masks.sum(1).long()
    both = (masks[rows] @ masks.T).long()
    either = selected[rows][:, None] + selected - both
    either = torch.where((selected[rows] > 0)[:, None] & (selected > 0), either, 0)
    return TapOverlap(both, either, torch.where(either > 0, _chance_by_count(channels, selected[rows], selected), 0.0))
