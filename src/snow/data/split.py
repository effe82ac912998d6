"""Which pictures are held out for testing, by their content, and how a task records it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from snow.data.decode import shown
from snow.data.pictures import Item
from snow.data.task import Dataset
from snow.errors import SnowError

FORMAT = 1
BYTES = 8
"""Of each SHA-256 digest that a record keeps: among 10^6 pictures two share these by chance once in 10^7 records."""

MOST_TRAINED = 1024
"""Digests of training pictures that a record keeps; of more pictures those with the smallest digests."""


def hold_out(labels: Tensor, digests: Sequence[bytes], fraction: float, seed: int) -> Tensor:
    """Choose test pictures by content: labels (n, T), n digests -> bool (n,), True for a test picture.

    Of each class of the first task the pictures with the smallest SHA-256(seed, digest) are chosen: `fraction` of them,
    rounded, at least one and not all. So a picture that is added to a class or taken from it moves at most one other,
    and neither names nor order matter. Copies of a picture go to the same side, and a picture in several classes is
    chosen last. Every class of every task keeps a training picture.
    """
    rank = {digest: hashlib.sha256(b"%d:" % seed + digest).digest() for digest in digests}
    first = labels[:, 0].tolist()
    classes: dict[bytes, set[int]] = {}
    for digest, label in zip(digests, first, strict=True):
        classes.setdefault(digest, set()).add(label)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(first)):
        copies: dict[bytes, list[int]] = {}
        for index in (labels[:, 0] == label).nonzero().flatten().tolist():
            copies.setdefault(digests[index], []).append(index)
        count = sum(map(len, copies.values()))
        wanted = min(max(round(fraction * count), 1), count - 1)
        ordered = sorted(copies, key=lambda digest: (len(classes[digest]), rank[digest]))
        chosen: list[int] = []
        for digest in ordered:
            if len(chosen) + len(copies[digest]) <= wanted:
                chosen += copies[digest]
        held[chosen or copies[ordered[0]][:wanted]] = True
    for column in labels[:, 1:].unbind(1):
        for label in column.unique():
            members = (column == label).nonzero().flatten()
            if label >= 0 and held[members].all():
                held[members[0]] = False
    return held


def copies_in_test(train: Mapping[bytes, Item], test: Mapping[bytes, Item], count: int) -> list[str]:
    """Warn, in at most one line, of test pictures with the content of training pictures.

    Args:
        train: digest -> a training picture with it; `test` likewise.
        count: test pictures whose content is among the training pictures.
    """
    if not count:
        return []
    digest = next(digest for digest in test if digest in train)
    example = f"{shown(str(test[digest]))} is {shown(str(train[digest]))}"
    return [f"{count} test pictures are copies of training pictures, such as {example}: accuracy on them means little"]


def in_several_classes(items: Sequence[Item], classes: Sequence[str | None], digests: Sequence[bytes]) -> list[str]:
    """Warn, in at most one line, of pictures with the same content and different classes."""
    first: dict[bytes, int] = {}
    conflicts: dict[bytes, tuple[int, int]] = {}
    for index, (name, digest) in enumerate(zip(classes, digests, strict=True)):
        if name is not None and classes[first.setdefault(digest, index)] != name:
            conflicts.setdefault(digest, (first[digest], index))
    if not conflicts:
        return []
    first_index, index = next(iter(conflicts.values()))
    example = " and ".join(f"{shown(str(items[number]))} ({classes[number]})" for number in (first_index, index))
    return [f"{len(conflicts)} pictures are in more than one class, such as {example} with the same content"]


@dataclass(frozen=True)
class SplitRecord:
    """Record of the split of a task's data: the first `BYTES` bytes of digests.

    Attributes:
        held_out: of the test pictures; empty where the data had a test part of its own.
        trained: of at most `MOST_TRAINED` training pictures, and of all that were held out and learned later.
        all_trained: whether `trained` has them all.
    """

    held_out: frozenset[bytes]
    trained: frozenset[bytes]
    all_trained: bool

    @classmethod
    def of(cls, dataset: Dataset, column: int = 0) -> SplitRecord | None:
        """Make the record of one task; None where the pictures were not hashed.

        Args:
            column: of the task among those of the data set. Pictures without its label do not count.
        """
        if dataset.digests is None:
            return None
        train, test = (
            {digest[:BYTES] for digest, label in zip(digests, pictures.labels[:, column], strict=True) if label >= 0}
            for digests, pictures in ((dataset.digests.train, dataset.train), (dataset.digests.test, dataset.test))
        )
        smallest = sorted(train)[:MOST_TRAINED]
        held_out = frozenset(test) if dataset.digests.held_out else frozenset[bytes]()
        return cls(held_out, frozenset(smallest), len(smallest) == len(train))

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: sorted digests, joined, in base64."""
        return {
            "format": FORMAT,
            "held_out": _encoded(self.held_out),
            "trained": _encoded(self.trained),
            "all_trained": self.all_trained,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitRecord:
        """Read what `to_dict` gave; SnowError if it is damaged or from a newer version."""
        if values.get("format") != FORMAT:
            raise SnowError(f"a split is recorded in format {values.get('format')!r}: this version reads {FORMAT}")
        try:
            held_out, trained = _decoded(values["held_out"]), _decoded(values["trained"])
            return cls(held_out, trained, bool(values["all_trained"]))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise SnowError("the record of the split is damaged") from None

    def with_trained(self, digests: Iterable[bytes], all_of_them: bool = True) -> SplitRecord:
        """Return the record of a task that has learned further pictures.

        Args:
            digests: of these pictures, or their first bytes.
            all_of_them: whether no other was learned.
        """
        learned = self.trained | {digest[:BYTES] for digest in digests}
        kept = frozenset(sorted(learned)[:MOST_TRAINED]) | (learned & self.held_out)
        return replace(self, trained=kept, all_trained=self.all_trained and all_of_them and kept == learned)

    def was_held_out(self, digest: bytes) -> bool:
        return digest[:BYTES] in self.held_out

    def was_trained(self, digest: bytes) -> bool:
        """Tell whether a picture was trained on; False for some that were where `all_trained` is False."""
        return digest[:BYTES] in self.trained


def _encoded(digests: frozenset[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(digests))).decode()


def _decoded(text: str) -> frozenset[bytes]:
    content = base64.b64decode(text, validate=True)
    if len(content) % BYTES:
        raise ValueError("digests are cut")
    return frozenset(content[start : start + BYTES] for start in range(0, len(content), BYTES))
