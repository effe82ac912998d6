"""The engine that leaves out what need not be computed, and what it shares with others."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Hashable
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from snow.inference.engine import Engine
from snow.inference.folding import Pairs, fold, foldable, folded, pad_evenly
from snow.methods import Method
from snow.source import Features, Source


def fuse_for_inference(source: Source) -> Source:
    """A source that gives the same features but for rounding, for pictures of the size that it is made for. It is not
    for saving: its tensors are other ones."""
    picture = example(source)

    def run(light: Source) -> list[Tensor]:
        """Maps and logits: a map that folding would change is seen."""
        features = light(picture)
        return [*features.maps.values(), features.logits]

    light = folded(source, run)
    pad_evenly(light, lambda: light(picture))
    return light


def fuse_method(method: Method, features: Features) -> nn.Module:
    """What answers as the method does, but for rounding. `features`: of any picture, with what the method looks at."""
    return folded(method, lambda light: [light(features)])


def example(source: Source) -> Tensor:
    """(1, 3, S, S) of uint8 noise, where the source is."""
    size = source.preprocessing.image_size
    noise = torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return noise.to(next(source.buffers()).device)


class FusedEngine(Engine):
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


class FoldedEngine(FusedEngine):
    """BatchNorm is folded into the convolutions before it, in the source and in what answers. Ready at once."""

    name: ClassVar[str] = "folded"

    def prepare(self, source: Source) -> Source:
        return fuse_for_inference(source)
