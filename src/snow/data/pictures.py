"""Labelled pictures that are read when they are asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
import torch.utils.data
from PIL import Image
from torch import Tensor

from snow.data.decode import decode, shown, to_rgb
from snow.errors import SnowError

Item = Path | Callable[[], Image.Image]
"""A picture: a file, or a callable that gives it as a Pillow image."""

Transform = Callable[[Tensor], Tensor]
"""uint8 (3, H, W) to uint8 (3, S, S)."""


class Pictures(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """n pictures with T labels each; -1 means that there is no label for that task.

    Args:
        items: n files or callables. Files keep their place if the process goes to another folder.
        labels: integers, (n, T), or (n,) for one task.
        transform: applied to every picture; None leaves it as decoded.

    Raises:
        SnowError: another number of labels than pictures.
    """

    def __init__(self, items: Iterable[Item], labels: Tensor, transform: Transform | None = None) -> None:
        self.items = tuple(item.absolute() if isinstance(item, Path) else item for item in items)
        self.labels = (labels.unsqueeze(1) if labels.ndim == 1 else labels).to(torch.int64)
        self.transform = transform
        if len(self.items) != len(self.labels):
            raise SnowError(f"there are {len(self.items)} pictures and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load a picture and its labels: uint8 (3, S, S), int64 (T,).

        With `(index, seed)` the transform draws from torch's CPU generator seeded with `seed`, whose state is
        restored afterwards: augmentation depends on the seed alone.

        Raises:
            SnowError: the picture cannot be read; the message names it and the reason.
        """
        if not isinstance(index, tuple):
            return self._transformed(index), self.labels[index]
        index, seed = index
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._transformed(index), self.labels[index]

    def _transformed(self, index: int) -> Tensor:
        pixels = load(self.items[index])
        return pixels if self.transform is None else self.transform(pixels)

    def with_transform(self, transform: Transform | None) -> Pictures:
        """Return the same pictures with another transform."""
        return Pictures(self.items, self.labels, transform)

    def subset(self, indices: Sequence[int]) -> Pictures:
        """Return the pictures at `indices`, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return Pictures([self.items[index] for index in chosen.tolist()], self.labels[chosen], self.transform)

    def split(self, fraction: float, seed: int, strata: Tensor | None = None) -> tuple[Pictures, Pictures]:
        """Split at random into `(rest, part)`: `part` has about `fraction` of each class of the first task.

        A class of that task with two or more pictures has one or more on either side; `rest` keeps at least
        one of every class of every task. The same pictures and seed give the same parts.

        Args:
            strata: (n, T), what counts as a class; by default the labels.

        Raises:
            SnowError: `fraction` is not between 0 and 1.
        """
        if not 0 < fraction < 1:
            raise SnowError(f"cannot hold out a fraction of {fraction}: use one between 0 and 1")
        generator = torch.Generator().manual_seed(seed)
        held = torch.zeros(len(self), dtype=torch.bool)
        strata = self.labels if strata is None else strata
        for label in strata[:, 0].unique():
            members = (strata[:, 0] == label).nonzero().flatten()
            count = min(max(round(fraction * len(members)), 1), len(members) - 1)
            held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
        for column in strata[:, 1:].unbind(1):
            for label in column.unique():
                members = (column == label).nonzero().flatten()
                if label >= 0 and held[members].all():
                    held[members[0]] = False
        return self.subset((~held).nonzero().flatten().tolist()), self.subset(held.nonzero().flatten().tolist())


def load(item: Item) -> Tensor:
    """Load a picture as RGB by the rules of `decode`: -> uint8 (3, H, W).

    Raises:
        SnowError: it cannot be read; the message names it and the reason.
    """
    if isinstance(item, Path):
        return decode(item)
    try:
        image = item()
    except SnowError:
        raise
    except Exception as error:
        raise SnowError(f"{shown(str(item))}: cannot be read ({error})") from None
    return to_rgb(image, shown(str(item)))


Progress = Callable[[int, int], None]
"""Called with the number of pictures checked so far and the number there are."""

_BLOCK = 256


WIDE = 2
"""A picture more than this many times longer than wide loses its ends where a square is cropped from it."""


class Inspection(NamedTuple):
    """The check of one picture.

    Attributes:
        fault: why it cannot be read; None: it can.
        digest: SHA-256 of its content.
        is_wide: whether its long side is more than `WIDE` times its short one; False if it was not decoded.
    """

    fault: str | None
    digest: bytes
    is_wide: bool = False


def inspect(items: Sequence[Item], progress: Progress | None = None, decoded: bool = True) -> list[Inspection]:
    """Check every picture and hash its content.

    Args:
        decoded: decode each. Without it no picture has a fault.
    """
    look = _inspect if decoded else _digest_only
    inspections: list[Inspection] = []
    with ThreadPoolExecutor(_threads()) as pool:
        for start in range(0, len(items), _BLOCK):
            inspections += pool.map(look, items[start : start + _BLOCK])
            if progress is not None:
                progress(len(inspections), len(items))
    return inspections


def _inspect(item: Item) -> Inspection:
    try:
        sides = load(item).shape[1:]
    except SnowError as error:
        return Inspection(str(error), b"")
    return _digest_only(item)._replace(is_wide=max(sides) > WIDE * min(sides))


def _digest_only(item: Item) -> Inspection:
    """Hash the bytes of a file; of a callable, or a file that cannot be read, the name."""
    if isinstance(item, Path):
        try:
            with item.open("rb") as file:
                return Inspection(None, hashlib.file_digest(file, "sha256").digest())
        except OSError:
            pass
    return Inspection(None, hashlib.sha256(os.fsencode(str(item))).digest())


def _threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 16)
