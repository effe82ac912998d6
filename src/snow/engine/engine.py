"""An engine: one way to run a source and what is asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snow.methods import Method
from snow.source import Features, Source


class Asked(NamedTuple):
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
    """

    name: ClassVar[str]

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def observe(self, images: Tensor, methods: list[Method], logits: bool) -> Features:
        """One pass for what these methods look at, and the source's own logits if they are wanted."""

    @abstractmethod
    def answer(self, method: Method, features: Features) -> Tensor:
        """A method's logits (B, classes)."""

    @torch.no_grad()
    def logits(self, images: Tensor, asked: Mapping[str, Asked]) -> dict[str, Tensor]:
        """By name the logits (stop - start, classes) of everything that is asked.

        Args:
            images: (B, 3, S, S) uint8, where the source is.
        """
        methods = [one.method for one in asked.values() if one.method is not None]
        features = self.observe(images, methods, logits=len(methods) < len(asked))
        answers = {}
        for name, (method, start, stop) in asked.items():
            seen = features.rows(start, len(images) if stop is None else stop)
            answers[name] = seen.logits if method is None else self.answer(method, seen)
        return answers
