"""Fused inference: BatchNorm folded into convolutions, the base of every engine but the eager one."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from snow.inference.engine import Engine
from snow.inference.folding import FoldablePairs, close, find_foldable, fold, fold_all, pad_evenly
from snow.methods import Method
from snow.source import Features, Source
from snow.source.network import Network, NetworkOutput


def fuse_for_inference(source: Source) -> Source:
    """Copy a source with BatchNorm folded; its features are the same up to rounding.

    The copy works for the source's own image size only, and must not be saved: its tensors differ.
    """
    picture = example(source)

    def run(fused: Source) -> list[Tensor]:
        """Return maps and logits, so that a map that folding would change is noticed."""
        features = fused(picture)
        return [*features.maps.values(), features.logits]

    pairs = find_foldable(source, run)
    fused = fold(source, pairs)
    pad_evenly(fused, lambda: fused(picture))
    fused.network = FoldedNetwork(fused, source, dict(pairs))
    return fused


class FoldedNetwork(Network):
    """Runs a source with BatchNorm folded. A tap behind a folded convolution gets what that gave before.

    Tasks may read maps that are none of the source's own taps, so that folding did not see them.

    Args:
        fused: the copy, whose own network this takes the place of.
        source: as it was.
        pairs: folded convolution -> BatchNorm, by name.
    """

    def __init__(self, fused: Source, source: Source, pairs: Mapping[str, str]) -> None:
        self._network, self._fused, self._source, self._pairs = fused.network, fused, source, dict(pairs)

    def register_taps(self, taps: Collection[str]) -> None:
        for tap in taps:
            norm = self._pairs.pop(f"cnn.{tap}", None)
            if norm is not None:
                self._unfold(f"cnn.{tap}")
                self._unfold(norm)
        self._network.register_taps(taps)

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        return self._network.run(x, taps, final)

    def _unfold(self, name: str) -> None:
        """Put a module back as it was, with the hooks of the one that took its place."""
        folded = self._fused.get_submodule(name)
        module = copy.deepcopy(self._source.get_submodule(name)).to(next(self._fused.buffers()).device)
        module._forward_hooks, module._forward_pre_hooks = folded._forward_hooks, folded._forward_pre_hooks
        self._fused.set_submodule(name, module)


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
        self._structures: WeakKeyDictionary[Method, Hashable] = WeakKeyDictionary()
        self._foldable: dict[Hashable, FoldablePairs] = {}
        self._agreeing: set[Hashable] = set()

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
        self._agreeing.clear()

    def answer(self, method: Method, features: Features) -> Tensor:
        if method not in self._methods:
            self._methods[method] = self.folded(method, features)
        return self._methods[method](features)

    def folded(self, method: AnyMethod, features: Features) -> AnyMethod:
        """Copy a method with BatchNorm folded; its logits are the same up to rounding."""
        return fold(method, self._find_foldable(method, features))

    def agrees(self, method: Method, folded: Method, features: Features, run: Callable[[Features], Tensor]) -> bool:
        """Whether another form of a method gives the same logits as its folded copy for one picture, up to rounding.

        It is tried until one method of a structure agrees, and then taken to hold for all: the next answers sooner.
        """
        structure = self._structure(method)
        if structure not in self._agreeing:
            picture = features.rows(0, 1)
            if not close(run(picture), folded(picture)):
                return False
            self._agreeing.add(structure)
        return True

    def _find_foldable(self, method: Method, features: Features) -> FoldablePairs:
        """Find what can be folded, once for all methods of one structure.

        An empty result is not kept: the check fails for a method whose weights are NaN, and the next may be sound.
        """
        structure = self._structure(method)
        if not self._foldable.get(structure):
            picture = features.rows(0, 1)
            self._foldable[structure] = find_foldable(method, lambda fused: [fused(picture)])
        return self._foldable[structure]

    def _structure(self, method: Method) -> Hashable:
        """Describe all of a method but its values. One with hooks, which nothing describes, is like no other."""
        if method not in self._structures:
            parts = list(method.named_modules())
            hooked = any(module._forward_hooks or module._forward_pre_hooks for _, module in parts)
            config = json.dumps(method.config, sort_keys=True)
            kinds = tuple((name, type(module)) for name, module in parts)
            self._structures[method] = config, kinds, id(method) if hooked else None
        return self._structures[method]


class FoldedEngine(FusedEngine):
    """Runs source and methods in PyTorch with BatchNorm folded. Needs no preparation."""

    name: ClassVar[str] = "folded"

    def prepare(self, source: Source) -> Source:
        return fuse_for_inference(source)
