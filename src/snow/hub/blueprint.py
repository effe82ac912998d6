"""Blueprints: the networks that configurations describe, without values, to check tensors against and to fill.

A network is built on the meta device, where nothing is allocated, so that absurd sizes in `config.json` cost nothing.
Tasks with equal configurations share one blueprint. Filling it takes a fraction of the time of building a network.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from snow.errors import DamagedError
from snow.hub.tensor_file import Header
from snow.hub.tensor_values import DTYPES
from snow.inference.module_tree import copy_tree, is_tree
from snow.kinds import ClassKind, kind_named
from snow.methods import SAVED_METHODS, Method
from snow.source import Source

MAX_BLUEPRINTS = 128
"""Blueprints that are kept; the one that was not used for longest goes first."""

Content = Mapping[str, Tensor]
"""Name -> tensor."""


class Blueprint:
    """The network of a task without values.

    Args:
        source: on the meta device.
        config: content of `config.json`.
    """

    def __init__(self, source: Source, config: Mapping[str, Any]) -> None:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _NoInitialValues():
            self.method = SAVED_METHODS[config["method"]].rebuild(source, outputs_of(config), config["config"])
        self.tensors = {name: (value.dtype, tuple(value.shape)) for name, value in self.method.state_dict().items()}
        self.method.eval()
        self.can_be_filled = is_tree(self.method) and self._saves_all()
        self._fitting: Header | None = None

    def check(self, stored: Header) -> None:
        """Compare the header of a file with the tensors of this network. Equal headers are compared once.

        Raises:
            SnowError: a tensor is missing, unknown, or of another type or shape.
        """
        if stored is self._fitting:
            return
        for name in self.tensors.keys() | stored.keys():
            if name not in stored or name not in self.tensors:
                raise DamagedError(f"tensor {name} is {'missing' if name not in stored else 'unknown'}")
            dtype, shape = self.tensors[name]
            if DTYPES.get(stored[name].dtype) != dtype or stored[name].shape != shape:
                kind = str(dtype).removeprefix("torch.")
                raise DamagedError(
                    f"tensor {name} is {stored[name].dtype}{list(stored[name].shape)}, but config.json describes "
                    f"{kind}{list(shape)}"
                )
        self._fitting = stored

    def fill(self, tensors: Content) -> Method:
        """Make a network in eval mode with these values, which must fit (`check`)."""
        return copy_tree(self.method, lambda name, value: _laid_out(tensors[name], value))

    def _saves_all(self) -> bool:
        return len(self.tensors) == sum(1 for _ in (*self.method.parameters(), *self.method.buffers()))


class Blueprints:
    """The blueprints of a hub's tasks, by configuration.

    Args:
        source: the source that the tasks read.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._meta_source: Source | None = None
        self._kept: OrderedDict[str, Blueprint] = OrderedDict()

    def get(self, config: Mapping[str, Any], stored: Header) -> Blueprint:
        """Return the blueprint of a task.

        Args:
            config: content of `config.json`.
            stored: header of the file with its tensors; a network with many more parts than it holds is not built.

        Raises:
            SnowError: the configuration describes no network, or one with too many parts.
        """
        key = json.dumps([config["method"], outputs_of(config), config["config"]], sort_keys=True)
        if key not in self._kept:
            limit = len(self.source.taps) + 2 + len(stored) // 2
            longest = max((len(entries) for entries in _lists(config["config"])), default=0)
            if longest > limit:
                raise DamagedError(f"config.json describes a network of {longest} parts, the tensors fit {limit}")
            self._kept[key] = Blueprint(self._on_meta(), config)
            if len(self._kept) > MAX_BLUEPRINTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _on_meta(self) -> Source:
        if self._meta_source is None:
            self._meta_source = copy.deepcopy(self.source).to("meta")
        return self._meta_source


class _NoInitialValues(TorchFunctionMode):
    """Skips `torch.nn.init` and `torch.arange`: a tensor on the meta device has no values.

    There the first `torch.arange` of a process would import sympy, which takes 0.2 s.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        if func is torch.arange and all(isinstance(bound, int) for bound in args):
            return torch.empty(len(range(*args)), dtype=(kwargs or {}).get("dtype", torch.int64))
        return func(*args, **(kwargs or {}))


def outputs_of(config: Mapping[str, Any]) -> int:
    """Return the number of outputs that a task's `config.json` describes.

    Raises:
        NotFoundError: an unknown kind of label.
    """
    return kind_named(config.get("labels", {}).get("kind", ClassKind.name)).saved_outputs(config["classes"])


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the values in the memory layout of a built network: kernels round otherwise in another one."""
    if tensor.stride() == like.stride():
        return tensor
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype).copy_(tensor)


def _lists(value: object) -> Iterator[list[Any]]:
    """Iterate over all lists in a JSON value."""
    if isinstance(value, list):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _lists(item)
