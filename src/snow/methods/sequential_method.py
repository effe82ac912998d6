"""The base class of methods that learn a task on top of the tasks before it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from torch import nn

from snow.errors import SnowError
from snow.methods.method import Method

Network = TypeVar("Network", bound=nn.Module)


class SequentialMethod(Method, ABC):
    """A method whose `build` takes the option `earlier`: task name -> its method, in the order of learning.

    Without the option the task is the first one after the source's own. The new method holds copies of the earlier
    ones, so it does not change them.

    Attributes:
        names: names of the earlier tasks, in order.
        is_shared: whether the newest network answers all tasks, so that one more task costs only a head.
    """

    names: tuple[str, ...]
    is_shared: ClassVar[bool] = False

    def updated_tasks(self) -> Mapping[str, Method]:
        """Return the earlier tasks whose answers this one changed: task name -> the method that answers from now on."""
        return {}

    @classmethod
    def _split_config(cls, config: Mapping[str, Any] | None) -> tuple[dict[str, Self], dict[str, Any]]:
        """Split `config` into earlier tasks and other options.

        Raises:
            SnowError: an earlier task was learned by another method, or in another order.
        """
        options = dict(config or {})
        earlier = options.pop("earlier", {})
        if not isinstance(earlier, Mapping):
            raise SnowError(f"option earlier of method {cls.name} maps task names to methods: not {earlier!r}")
        names = tuple(earlier)
        for position, (name, method) in enumerate(earlier.items()):
            if not isinstance(method, cls):
                raise SnowError(f"method {cls.name} builds on tasks that it learned itself, and {name} is not one")
            if method.names != names[:position]:
                order = ", ".join(method.names) or "the source alone"
                raise SnowError(f"method {cls.name} builds on tasks in their order: {name} was learned after {order}")
        return dict(earlier), options


def frozen_copy(network: Network) -> Network:
    """Freeze a network in place and return it: in eval mode, with all tensors as parameters without gradients.

    Running statistics become parameters as well: processes that train together average buffers, which is not exact.
    """
    for module in network.modules():
        for name, value in list(module._buffers.items()):
            if value is not None and name not in module._non_persistent_buffers_set:
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return network.requires_grad_(False).eval()
