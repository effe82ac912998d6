"""Chains: channels between two layers of a network that nothing else reads.

A convolution or linear layer makes them, layers that keep channels apart (normalisation, activation, depthwise
convolution, a gate) pass them on, and another convolution or linear layer reads them. In an inverted residual they are
the expanded channels, in a residual block all but those of its sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any, NamedTuple, Self, TypeGuard

import torch
from timm.layers import Conv2dSame, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from torchvision.ops import SqueezeExcitation

MULTIPLE = 8
"""Numbers of kept channels are rounded up to a multiple of this, which processors are fast with."""

TOLERANCE = 1e-3
"""Largest accepted difference where the channels of a chain are permuted, relative to the largest answer."""

GATES = (SqueezeExcite, SEModule, SqueezeExcitation)
"""Layers that multiply each channel by a factor, computed from the means of all channels (Hu et al., 2018)."""

WHOLE = (_NormBase, *GATES)
"""Modules that are one layer, whatever is inside."""


class Chain(NamedTuple):
    """The layers around some channels, by name.

    Attributes:
        first: makes the channels.
        between: those that hold tensors with an entry for each channel.
        last: alone reads the channels.
        channels: their number, N.
        kept: how many of them stay, K.
    """

    first: str
    between: tuple[str, ...]
    last: str
    channels: int
    kept: int

    def to_list(self) -> list[Any]:
        """Convert to JSON values."""
        return [self.first, list(self.between), self.last, self.channels, self.kept]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Self:
        first, between, last, channels, kept = values
        return cls(str(first), tuple(map(str, between)), str(last), int(channels), int(kept))


@torch.no_grad()
def find_chains(network: nn.Module, keep: float, run: Callable[[], Tensor]) -> list[Chain]:
    """Find the chains of a network in eval mode, in the order in which it runs them.

    Args:
        keep: share of the channels that stay, K / N.
        run: runs the network, and returns its answers. If they change once the channels of a chain are permuted, the
            chain is left out.
    """
    recorder = _Recorder(network)
    with recorder:
        expected = run()
    chains = _follow(recorder.calls, recorder.elsewhere, keep)
    return [chain for chain in chains if expected.is_meta or _can_permute(network, chain, run, expected)]


def select(network: nn.Module, chain: Chain, index: Tensor) -> None:
    """Keep some channels of a chain in place, in this order: (K,)."""
    _take(network.get_submodule(chain.first), index, 0)
    for name in chain.between:
        _take(network.get_submodule(name), index, 0)
    _take(network.get_submodule(chain.last), index, 1)


class _Call(NamedTuple):
    """One run of a layer.

    Attributes:
        source, made: the input and the output as they are at that time: two runs that read the same have one source.
        tensors: of both, kept so that no other one gets their identity.
    """

    name: str
    module: nn.Module
    source: tuple[int, int]
    made: tuple[int, int]
    tensors: tuple[Tensor, Tensor]


class _Recorder(TorchFunctionMode):
    """Records which layers and which other functions read what, while a network runs.

    Layers are modules without any inside, and those that are taken as a whole.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.elsewhere: set[tuple[int, int]] = set()
        self._network, self._source = network, None
        self._handles: list[RemovableHandle] = []
        self._kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._source is not None:  # inside of a layer
            return func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        read = [_identity(one) for one in tensors]
        result = func(*args, **(kwargs or {}))
        if any(isinstance(one, Tensor) for one in tree_leaves(result)):  # others ask for a shape or the like
            self.elsewhere.update(read)
            self._kept += tensors
        return result

    def __enter__(self) -> Self:
        whole = tuple(f"{name}." for name, one in self._network.named_modules() if isinstance(one, WHOLE))
        for name, module in self._network.named_modules():
            is_layer = next(module.children(), None) is None or isinstance(module, WHOLE)
            if is_layer and not name.startswith(whole):
                self._handles.append(module.register_forward_pre_hook(self._enter))
                self._handles.append(module.register_forward_hook(partial(self._leave, name)))
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        for handle in self._handles:
            handle.remove()

    def _enter(self, _module: nn.Module, inputs: tuple) -> None:
        self._source = _identity(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else None

    def _leave(self, name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        source, self._source = self._source, None
        if source is not None and isinstance(output, Tensor) and source != _identity(output):
            self.calls.append(_Call(name, module, source, _identity(output), (inputs[0], output)))


def _identity(x: Tensor) -> tuple[int, int]:
    """Return what tells a tensor, and what it holds, from others: a change in place makes it another one."""
    return id(x), x._version


def _follow(calls: Sequence[_Call], elsewhere: Set[tuple[int, int]], keep: float) -> list[Chain]:
    """Follow the channels of each layer to the only one that reads them.

    Args:
        elsewhere: what functions read that are no layers.
        keep: see `find_chains`.
    """
    readers: dict[tuple[int, int], list[_Call]] = {}
    for call in calls:
        readers.setdefault(call.source, []).append(call)
    counts = Counter(call.name for call in calls)
    chains = []
    for first in calls:
        if not is_dense(first.module):
            continue
        channels, between, call = len(first.module.weight), list[str](), first
        while len(readers.get(call.made, ())) == 1 and call.made not in elsewhere:
            [call] = readers[call.made]
            if is_dense(call.module):
                chain = Chain(first.name, tuple(between), call.name, channels, _kept(channels, keep))
                run_once = all(counts[name] == 1 for name in (chain.first, *chain.between, chain.last))
                if run_once and _is_wide(first.module.weight, call.module.weight):
                    chains.append(chain)
                break
            if not _keeps_apart(call.module, channels):
                break
            if _own_tensors(call.module) or isinstance(call.module, GATES):
                between.append(call.name)
    return chains


def _kept(channels: int, keep: float) -> int:
    """Return how many channels stay, at least `MULTIPLE` if there are as many."""
    return min(channels, max(1, -(-round(keep * channels) // MULTIPLE)) * MULTIPLE)


def is_dense(module: nn.Module) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Whether each output of a layer reads all of its input channels."""
    if isinstance(module, nn.Conv2d):
        return type(module) in (nn.Conv2d, Conv2dSame) and module.groups == 1
    return type(module) is nn.Linear


def _is_wide(first: Tensor, last: Tensor) -> bool:
    """Whether the channels between two weights are no bottleneck, which is narrow already."""
    return first.shape[0] == last.shape[1] and first.shape[0] >= min(first.shape[1], last.shape[0])


def _keeps_apart(module: nn.Module, channels: int) -> bool:
    """Whether a layer passes channels on without mixing them: what it makes of one takes the place of that one."""
    if isinstance(module, nn.Conv2d):
        return module.groups == module.in_channels == module.out_channels == channels
    return isinstance(module, WHOLE) or not _own_tensors(module)


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a layer."""
    return dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])


def _can_permute(network: nn.Module, chain: Chain, run: Callable[[], Tensor], expected: Tensor) -> bool:
    order = torch.arange(chain.channels - 1, -1, -1)
    select(network, chain, order)
    found = run()
    select(network, chain, order)
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _take(module: nn.Module, index: Tensor, side: int) -> None:
    """Keep the outputs (`side` 0) or the inputs (1) of a layer, or the channels of one that keeps them apart."""
    if isinstance(module, GATES):
        dense = [layer for layer in module.modules() if is_dense(layer)]
        _take(dense[0], index, 1)
        _take(dense[-1], index, 0)
        return
    for name, value in _own_tensors(module).items():
        if value.ndim > side:
            taken = value.detach().index_select(side, index.to(value.device))
            is_parameter = isinstance(value, nn.Parameter)
            setattr(module, name, nn.Parameter(taken, value.requires_grad) if is_parameter else taken)
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
    outputs, inputs = ("out_channels", "out_features", "num_features"), ("in_channels", "in_features")
    for name in (*outputs, *inputs, "groups") if depthwise else (outputs, inputs)[side]:
        if hasattr(module, name):
            setattr(module, name, len(index))
