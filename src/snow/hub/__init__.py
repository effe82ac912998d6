"""Hubs: a source and any number of tasks in a folder, and how tasks are kept, checked, shared and exported."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snow.hub.artifact import Artifact
    from snow.hub.hub import Hub

_MODULES = {
    "Artifact": "artifact",
    "Hub": "hub",
}
"""Where each name lives. It is imported on first use: torch takes seconds, and `source.json` is read without it."""

__all__ = [
    "Artifact",
    "Hub",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
