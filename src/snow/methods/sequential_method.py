"""Methods that learn a task on top of those before it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from torch import nn

from snow.errors import SnowError
from snow.methods.method import Method

Network = TypeVar("Network", bound=nn.Module)


class SequentialMethod(Method, ABC):
    """A method whose `build` takes the option `earlier`: task name -> what learned it, in the order of learning.

    Without it the task is the first one after the source's own. What is built holds copies: it needs nothing of the
    earlier methods afterwards, and changes nothing in them.

    Attributes:
        names: of the tasks before, in order.
        is_shared: whether one network, the newest, answers all tasks, so that a further task costs its head alone.
    """

    names: tuple[str, ...]
    is_shared: ClassVar[bool] = False

    def updated_tasks(self) -> Mapping[str, Method]:
        """The earlier tasks whose answers this one has changed, by name, as they are answered from now on."""
        return {}

    @classmethod
    def _earlier(cls, config: Mapping[str, Any] | None) -> tuple[dict[str, Self], dict[str, Any]]:
        """Splits `config` into earlier tasks and other options.

        Raises:
            SnowError: an earlier task that this method has not learned, or one that is out of order.
        """
        options = dict(config or {})
        earlier = options.pop("earlier", {})
        if not isinstance(earlier, Mapping):
            raise SnowError(f"option earlier of method {cls.name} takes what was learned, by name: not {earlier!r}")
        names = tuple(earlier)
        for before, (name, method) in enumerate(earlier.items()):
            if not isinstance(method, cls):
                raise SnowError(f"method {cls.name} builds on tasks that it learned itself, and {name} is not one")
            if method.names != names[:before]:
                learned = ", ".join(method.names) or "the source alone"
                raise SnowError(f"method {cls.name} builds on tasks in their order: {name} was learned after {learned}")
        return dict(earlier), options


def frozen_copy(network: Network) -> Network:
    """Makes a network stand still, in place: in eval mode, and all its tensors parameters that want no gradient.

    Running statistics as well: processes that train together average what are buffers, which is not exact.
    """
    for module in network.modules():
        for name, value in list(module._buffers.items()):
            if value is not None and name not in module._non_persistent_buffers_set:
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return network.requires_grad_(False).eval()
