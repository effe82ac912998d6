"""Engines: ways to run a source and the methods that read its features. The plain one, `EagerEngine`, is here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from snow.inference.features import moments_of
from snow.methods import Method
from snow.source import Features, Source


class Engine(ABC):
    """Runs one source and any number of methods. Only one thread at a time may use it.

    A new engine is one file and one line in `ENGINES`. An engine may keep what it prepared for a method as long as
    that method lives; preparing one method changes nothing for the others.

    Attributes:
        name: key in `ENGINES`.
        exact: whether its logits equal those of the eager engine up to float32 rounding.
        isolated: whether the other tasks that are asked change no bit of a task's logits. Elsewhere they change them
            by float32 rounding.
        shares_moments: whether methods read moments of their selected channels from those of the whole map, which are
            computed once. A method that computes its own gets other rounding errors.
        source: the source as it was trained on; its device is the engine's device.
        folder: for what takes long to prepare; None: the cache folder.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True
    isolated: ClassVar[bool] = True
    shares_moments: ClassVar[bool] = True

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        self.source, self.folder = source, folder

    @property
    def device(self) -> torch.device:
        return next(self.source.buffers()).device

    @abstractmethod
    def prepared_source(self) -> Source:
        """Return the source in the form that this engine runs, on `device`.

        Raises:
            SnowError: a package is missing, or the engine cannot run this source or device.
        """

    def warm_up(self) -> None:
        """Do what would delay later answers: prepare the source, and more where a subclass says so.

        Raises:
            SnowError: as `prepared_source`.
        """
        self.prepared_source()

    @abstractmethod
    def answer(self, method: Method, features: Features) -> Tensor:
        """Compute the logits of a method: features of B pictures -> (B, C)."""

    def moments(self, features: Features, taps: Collection[str]) -> dict[str, Tensor]:
        """Compute the moments of whole maps: name -> (B, 2, N)."""
        return {tap: moments_of(features.maps[tap]) for tap in taps}

    def answers(self, methods: Sequence[Method], features: Features) -> list[Tensor | Exception]:
        """Compute the logits of several methods: features of B pictures -> (B, C) each.

        A method that raises gets its exception in the place of logits, and leaves the others as they are.
        """
        return [self._answer_or_error(method, features) for method in methods]

    def _answer_or_error(self, method: Method, features: Features) -> Tensor | Exception:
        try:
            return self.answer(method, features)
        except Exception as error:  # a network can fail in any way
            return error


class EagerEngine(Engine):
    """Runs every method as it was saved, one after the other. No task can change another's logits by a single bit."""

    name: ClassVar[str] = "eager"
    shares_moments: ClassVar[bool] = False

    def prepared_source(self) -> Source:
        return self.source

    def answer(self, method: Method, features: Features) -> Tensor:
        own = {tap: features.moments[tap] for tap in method.moment_taps}  # others may have asked for more
        return method(replace(features, moments=own))
