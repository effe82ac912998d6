"""Engines that prepare copies which need less work."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from snow.engine.engine import Engine
from snow.engine.fold import Pairs, fold, foldable
from snow.methods import Method
from snow.source import Features, Source


class Prepared(Engine):
    """BatchNorm is folded into the convolutions before it, in what answers; the source is prepared as each sees fit."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._running: Source | None = None
        self._methods: WeakKeyDictionary[Method, nn.Module] = WeakKeyDictionary()
        self._pairs: dict[Hashable, Pairs] = {}

    @abstractmethod
    def prepare(self, source: Source) -> Source:
        """The source as this engine runs it; `source` stays as it is."""

    def running(self, device: torch.device) -> Source:
        if self._running is None or next(self._running.buffers()).device != device:
            self._running = self.prepare(self.source)
            self._methods.clear()
        return self._running

    def answer(self, method: Method, features: Features) -> Tensor:
        if method not in self._methods:
            self._methods[method] = fold(method, self._foldable(method, features))
        return self._methods[method](features)

    def _foldable(self, method: Method, features: Features) -> Pairs:
        """Found and tried once for all methods of one structure, so that a task which is added to others answers
        sooner. Where nothing can be folded in one, because its numbers are none for example, the next is looked at."""
        structure = (
            json.dumps(method.config, sort_keys=True),
            *((name, type(module)) for name, module in method.named_modules()),
        )
        if not self._pairs.get(structure):
            picture = features.rows(0, 1)
            self._pairs[structure] = foldable(method, lambda light: [light(picture)])
        return self._pairs[structure]
