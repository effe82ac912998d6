"""The engine that does what training did, in the same order: the measure of the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from snow.engine.engine import Engine
from snow.methods import Method
from snow.source import Features, Source


class Eager(Engine):
    """Each method as it is saved, one after the other: what one answers cannot depend on the others by a single bit."""

    name: ClassVar[str] = "eager"

    def running(self, device: torch.device) -> Source:
        return self.source

    def answer(self, method: Method, features: Features) -> Tensor:
        return method(features)
