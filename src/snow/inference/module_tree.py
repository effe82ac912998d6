"""Copy networks fast: module by module, where `copy.deepcopy` would follow every attribute of every module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

PLAIN = frozenset((bool, int, float, str, type(None)))
CONTAINERS, NETWORK = (dict, list, set), (nn.Module, Tensor)
REGISTERED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")

Network = TypeVar("Network", bound=nn.Module)


def is_tree(network: nn.Module) -> bool:
    """Whether `copy_tree` makes a working copy.

    No module or tensor may have two names, and nothing in a module (a list, a hook) may refer to another module or to
    a tensor except by registering it.
    """
    modules = [module for _, module in network.named_modules(remove_duplicate=False)]
    tensors = [
        id(value)
        for module in modules
        for value in (*module._parameters.values(), *module._buffers.values())
        if value is not None
    ]
    return (
        len(set(map(id, modules))) == len(modules)
        and len(set(tensors)) == len(tensors)
        and not any(
            _refers(value)
            for module in modules
            for key, value in vars(module).items()
            if type(value) not in PLAIN and key not in REGISTERED and (type(value) is not OrderedDict or value)
        )
    )


def copy_tree(network: Network, tensor: Callable[[str, Tensor], Tensor] | None = None, prefix: str = "") -> Network:
    """Copy all modules of a tree, see `is_tree`.

    Args:
        tensor: makes a tensor of the copy from its name and the one in `network`; by default both share all tensors.
        prefix: of the names.
    """
    new = type(network).__new__(type(network))
    attributes = vars(new)
    for key, value in vars(network).items():
        attributes[key] = value.copy() if isinstance(value, CONTAINERS) else value
    for key, parameter in network._parameters.items():
        if parameter is not None and tensor is not None:
            made = tensor(prefix + key, parameter)
            attributes["_parameters"][key] = nn.Parameter(made, requires_grad=parameter.requires_grad)
    for key, buffer in network._buffers.items():
        if buffer is not None and tensor is not None:
            attributes["_buffers"][key] = tensor(prefix + key, buffer)
    for key, module in network._modules.items():
        if module is not None:
            attributes["_modules"][key] = copy_tree(module, tensor, f"{prefix}{key}.")
    return new


def _refers(value: object) -> bool:
    if type(value) in PLAIN:
        return False
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_refers, value))
    return isinstance(value, NETWORK) or (callable(value) and not isinstance(value, type))
