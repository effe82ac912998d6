"""An engine: one way to run a source and what is asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.inference.features import observe_channels
from snow.methods import Method
from snow.source import Features, Source

AT_A_TIME = {"cpu": 32}
"""Pictures in a part of a pass, by the type of the device: more of them take memory, and no less time each."""


class Request(NamedTuple):
    """One answer that is wanted.

    Attributes:
        method: whose; None is the source's own head.
        start, stop: of the pictures in the batch that are to be answered; None: to the end.
    """

    method: Method | None
    start: int = 0
    stop: int | None = None


class Engine(ABC):
    """Answers with one pass of a source, whatever is asked. One thread at a time may use it.

    A new engine is one file and one line in `ENGINES`. What it prepares for a method it keeps as long as the method
    lives, and nothing that it prepared for others changes when one comes or goes.

    Attributes:
        name: its key in `ENGINES`.
        exact: whether it answers as the others do, but for rounding of single precision.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def running(self, device: torch.device) -> Source:
        """The source as this engine runs it."""

    @abstractmethod
    def answer(self, method: Method, features: Features) -> Tensor:
        """A method's logits (B, classes)."""

    def observe(self, images: Tensor, methods: Sequence[Method | None]) -> list[Features]:
        """What each of these methods looks at, from one pass; None: the source's own logits.

        Args:
            images: (B, 3, S, S) uint8, where the source is.

        Raises:
            SnowError: they are of another size.
        """
        size = self.source.preprocessing.image_size
        if images.shape[1:] != (3, size, size):
            raise SnowError(f"the source takes pictures of shape (3, {size}, {size}), not {tuple(images.shape[1:])}")
        asked = [method for method in methods if method is not None]
        channels_needed = [{} if method is None else method.sample_channels() for method in methods]
        source = self.running(images.device)
        return observe_channels(
            source, asked, images, channels_needed, logits=None in methods, at_a_time=AT_A_TIME.get(images.device.type)
        )

    @torch.no_grad()
    def logits(self, images: Tensor, asked: Mapping[str, Request]) -> dict[str, Tensor]:
        """By name the logits (stop - start, classes) of everything that is asked; `images` as in `observe`."""
        answers = {}
        seen = self.observe(images, [one.method for one in asked.values()])
        for (name, (method, start, stop)), features in zip(asked.items(), seen, strict=True):
            rows = features.rows(start, len(images) if stop is None else stop)
            answers[name] = rows.logits if method is None else self.answer(method, rows)
        return answers


def group_by_task(wanted: Sequence[Collection[str]]) -> tuple[list[int], dict[str, tuple[int, int]]]:
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


class EagerEngine(Engine):
    """Each method as it is saved, one after the other: what one answers cannot depend on the others by a single bit."""

    name: ClassVar[str] = "eager"

    def running(self, device: torch.device) -> Source:
        return self.source

    def answer(self, method: Method, features: Features) -> Tensor:
        return method(features)
