"""Batches whose pictures want different answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def arrange(wanted: Sequence[Collection[str]]) -> tuple[list[int], dict[str, tuple[int, int]]]:
    """An order of pictures in which those that want the same are neighbours, and for each name its run of them.

    A run goes from the first picture that wants the name to behind the last, so that a method sees views of the maps
    and no copies, which would cost as much as a delta does; those between that do not want it are answered in vain.

    Args:
        wanted: for each picture, names.
    """
    order = sorted(range(len(wanted)), key=lambda picture: sorted(wanted[picture]))
    runs: dict[str, tuple[int, int]] = {}
    for place, picture in enumerate(order):
        for name in wanted[picture]:
            runs[name] = (runs[name][0] if name in runs else place, place + 1)
    return order, runs
