"""The engine that leaves out what need not be computed."""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from snow.engine.engine import Engine
from snow.engine.light import light_method, light_source
from snow.methods import Method
from snow.source import Features, Source


class Folded(Engine):
    """BatchNorm is folded into the convolutions before it, in the source and in what answers. Ready at once."""

    name: ClassVar[str] = "folded"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._light: Source | None = None
        self._methods: WeakKeyDictionary[Method, nn.Module] = WeakKeyDictionary()

    def running(self, device: torch.device) -> Source:
        if self._light is None or next(self._light.buffers()).device != device:
            self._light = light_source(self.source)
            self._methods.clear()
        return self._light

    def answer(self, method: Method, features: Features) -> Tensor:
        if method not in self._methods:
            self._methods[method] = light_method(method, features.rows(0, 1))
        return self._methods[method](features)
