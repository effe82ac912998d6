"""Fused inference: BatchNorm folded into convolutions, the base of every engine but the eager one."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from snow.inference.engine import Engine
from snow.inference.folding import FoldablePairs, close, find_foldable, fold, fold_all, pad_evenly
from snow.methods import Method
from snow.source import Features, Source


def fuse_for_inference(source: Source) -> Source:
    """Copy a source with BatchNorm folded; its features are the same up to rounding.

    The copy works for the source's own image size only, and must not be saved: its tensors differ.
    """
    picture = example(source)

    def run(fused: Source) -> list[Tensor]:
        """Return maps and logits, so that a map that folding would change is noticed."""
        features = fused(picture)
        return [*features.maps.values(), features.logits]

    fused = fold_all(source, run)
    pad_evenly(fused, lambda: fused(picture))
    return fused


def fuse_method(method: Method, features: Features) -> nn.Module:
    """Copy a method with BatchNorm folded; its logits are the same up to rounding.

    Args:
        features: of any pictures, with everything that the method reads.
    """
    return fold_all(method, lambda fused: [fused(features)])


def example(source: Source) -> Tensor:
    """Draw one picture of uint8 noise, (1, 3, S, S), on the source's device; always the same."""
    size = source.preprocessing.image_size
    noise = torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return noise.to(next(source.buffers()).device)


AnyMethod = TypeVar("AnyMethod", bound=Method)


class FusedEngine(Engine):
    """Runs methods with BatchNorm folded. A subclass says how it runs the source."""

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        super().__init__(source, folder)
        self._prepared: Source | None = None
        self._methods: WeakKeyDictionary[Method, nn.Module] = WeakKeyDictionary()
        self._foldable: dict[Hashable, FoldablePairs] = {}

    @abstractmethod
    def prepare(self, source: Source) -> Source:
        """Return `source` in the form that this engine runs, and leave `source` as it is."""

    def prepared_source(self) -> Source:
        if self._prepared is None or next(self._prepared.buffers()).device != self.device:
            self._prepared = self.prepare(self.source)
            self.forget_methods()
        return self._prepared

    def forget_methods(self) -> None:
        """Forget what was prepared for methods: they are on another device now."""
        self._methods.clear()

    def answer(self, method: Method, features: Features) -> Tensor:
        if method not in self._methods:
            self._methods[method] = self.folded(method, features)
        return self._methods[method](features)

    def folded(self, method: AnyMethod, features: Features) -> AnyMethod:
        """Copy a method with BatchNorm folded; its logits are the same up to rounding."""
        return fold(method, self._find_foldable(method, features))

    def agrees(self, folded: Method, features: Features, run: Callable[[Features], Tensor]) -> bool:
        """Whether another form of a folded method gives the same logits for one picture, up to rounding."""
        picture = features.rows(0, 1)
        return close(run(picture), folded(picture))

    def _find_foldable(self, method: Method, features: Features) -> FoldablePairs:
        """Find what can be folded, once for all methods of one structure: the next task then answers sooner.

        An empty result is not kept: the check fails for a method whose weights are NaN, and the next may be sound.
        """
        structure = (
            json.dumps(method.config, sort_keys=True),
            *((name, type(module)) for name, module in method.named_modules()),
        )
        if not self._foldable.get(structure):
            picture = features.rows(0, 1)
            self._foldable[structure] = find_foldable(method, lambda fused: [fused(picture)])
        return self._foldable[structure]


class FoldedEngine(FusedEngine):
    """Runs source and methods in PyTorch with BatchNorm folded. Needs no preparation."""

    name: ClassVar[str] = "folded"

    def prepare(self, source: Source) -> Source:
        return fuse_for_inference(source)
