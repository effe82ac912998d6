"""The network behind a source: runs the CNN and captures the feature maps of a pass."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.source.layout import Layout, first_tensor

FINAL, LOGITS = "(final)", "(logits)"
"""Keys beside the names of taps for the final features and the logits; no module has such a name."""

TOKENS = "(tokens)"
"""The same for what is added to the final features."""


@dataclass(frozen=True)
class FinalTokens:
    """Final features beside what the source's classifier reads: tokens of its last features.

    Attributes:
        module: whose output they are part of.
        layout: of that output.
        others: numbers of class and register tokens.
        with_mean: whether the mean of the grid's tokens is among them.
    """

    module: str
    layout: Layout
    others: tuple[int, ...]
    with_mean: bool

    @property
    def count(self) -> int:
        """How many vectors of the tokens' width they are."""
        return len(self.others) + self.with_mean

    def read(self, x: Tensor) -> Tensor:
        """Take the tokens one after the other: (B, others + H * W, N) -> (B, count * N)."""
        parts = [x[:, index] for index in self.others]
        if self.with_mean:
            parts.append(self.layout.grid_tokens(x).mean(1))
        return torch.cat(parts, 1)


class NetworkOutput(NamedTuple):
    """The result of one pass, with the shapes of `Features`."""

    maps: dict[str, Tensor]
    final: Tensor
    logits: Tensor


class Network(ABC):
    """Runs passes of a source, for one thread at a time.

    Attributes:
        preferred_batch_size: pictures per pass that this network runs fastest with, whatever the batch; None: the
            caller decides.
    """

    preferred_batch_size: ClassVar[int | None] = None

    @abstractmethod
    def register_taps(self, taps: Collection[str]) -> None:
        """Prepare to capture the maps of these taps.

        Raises:
            SnowError: there is no such tap.
        """

    @abstractmethod
    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        """Run one pass over normalised pictures (B, 3, S, S). With `final=False` it stops behind the last tap."""


class HookedNetwork(Network):
    """Runs a CNN in eval mode and captures maps by forward hooks.

    Args:
        classifier: name of the layer whose input gives the final features.
        layouts: name of a module -> how its output is laid out as a map, for those that give no map themselves.
        final_tokens: what is added to the final features; None: nothing.
    """

    def __init__(
        self,
        cnn: nn.Module,
        classifier: str,
        layouts: Mapping[str, Layout] | None = None,
        final_tokens: FinalTokens | None = None,
    ) -> None:
        self.cnn = cnn
        self.layouts, self.final_tokens = dict(layouts or {}), final_tokens
        self._captured = _Captured()
        self._hooked: set[str] = set()
        cnn.get_submodule(classifier).register_forward_pre_hook(_CaptureInput(self._captured))
        if final_tokens is not None:
            cnn.get_submodule(final_tokens.module).register_forward_hook(_CaptureTokens(self._captured, final_tokens))

    def register_taps(self, taps: Collection[str]) -> None:
        for name in set(taps) - self._hooked:
            try:
                module = self.cnn.get_submodule(name)
            except AttributeError:
                raise SnowError(f"there is no tap {name!r}: `snow taps` lists those of a source") from None
            module.register_forward_hook(_CaptureOutput(self._captured, name, self.layouts.get(name)))
            self._hooked.add(name)

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        empty = x.new_empty(x.shape[0], 0)  # `len(x)` would make B a constant in an exported program
        maps = self._captured.start(taps, final)
        try:
            logits = self.cnn(x)
        except _LastTapError:
            logits = empty
        self._captured.start(())
        final_features = global_average(maps[FINAL]) if final else empty
        if final and self.final_tokens is not None:
            final_features = torch.cat([final_features, maps[TOKENS]], 1)
        return NetworkOutput({name: maps[name] for name in taps}, final_features, logits)


def global_average(x: Tensor) -> Tensor:
    """Average over space, if there is any left: (B, D, ...) -> (B, D)."""
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def freeze_parameters(cnn: nn.Module) -> nn.Module:
    """Turn every parameter into a buffer, in place."""
    for module in cnn.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                del module._parameters[name]
                module.register_buffer(name, parameter.detach())
    return cnn


def unfrozen_copy(cnn: nn.Module, names: Collection[str]) -> nn.Module:
    """Copy a CNN without its hooks, with the buffers in `names` as parameters."""
    cnn = copy.deepcopy(cnn)
    for module in cnn.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    for name in names:
        module_name, _, buffer = name.rpartition(".")
        module = cnn.get_submodule(module_name)
        value = module._buffers.pop(buffer)
        assert value is not None
        module.register_parameter(buffer, nn.Parameter(value))
    return cnn


class _LastTapError(Exception):
    """Stops a pass once all its maps are captured."""


class _Captured:
    """The tensors that the hooks capture in one pass: tap -> map.

    Maps that are not requested are not referenced here, so the CNN frees them as it goes and reuses their memory.
    """

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self.requested: frozenset[str] = frozenset()
        self.final = True

    def start(self, requested: Collection[str], final: bool = True) -> dict[str, Tensor]:
        """Start a pass and return the dict that it fills. Without `final` it stops after the last requested map."""
        self.maps, self.requested, self.final = {}, frozenset(requested), final
        return self.maps


class _CaptureOutput:
    """A picklable forward hook that captures a module's output as a map."""

    def __init__(self, captured: _Captured, name: str, layout: Layout | None) -> None:
        self.captured, self.name, self.layout = captured, name, layout

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if self.name not in self.captured.requested or (self.layout is not None and self.name in self.captured.maps):
            return  # a module that is called again may give tokens of another grid
        x = first_tensor(output)
        assert x is not None
        self.captured.maps[self.name] = x if self.layout is None else self.layout.to_map(x)
        if not self.captured.final and self.captured.requested <= self.captured.maps.keys():
            raise _LastTapError


class _CaptureTokens:
    """A picklable forward hook that captures tokens of a module's output as `TOKENS`."""

    def __init__(self, captured: _Captured, tokens: FinalTokens) -> None:
        self.captured, self.tokens = captured, tokens

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> None:
        x = first_tensor(output)
        if self.captured.final and TOKENS not in self.captured.maps and x is not None and x.ndim > 2:
            self.captured.maps[TOKENS] = self.tokens.read(x)


class _CaptureInput:
    """A picklable forward pre-hook that captures a module's input as `FINAL`."""

    def __init__(self, captured: _Captured) -> None:
        self.captured = captured

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.captured.maps[FINAL] = inputs[0]
