"""Import torchvision, on import of this module, without the compiler of torch.

torchvision needs two functions of `torch._dynamo` while it is imported, and never calls what they are for unless a
program is compiled. The import of `torch._dynamo` takes as long as that of torch itself: a quarter of the time that
`snow predict` needs for a picture. So it is put off until it is used:

- `is_compile_supported`, of the fallback of RoI align, imports the module when it is called;
- `torch.compiler.disable`, of `torchvision.tv_tensors.wrap`, is torch's own variant that imports it on the first call.

Nothing of this stays in place afterwards, and a process that has imported either already is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch

_UTILS = "torch._dynamo.utils"


@contextmanager
def deferred_compiler() -> Generator[None]:
    """Put off the import of `torch._dynamo` by what torchvision imports of it during the block.

    If anything else of it is needed during the block, it is imported then.
    """
    disable, lazy_disable = torch.compiler.disable, getattr(torch, "_disable_dynamo", None)
    if "torch._dynamo" in sys.modules or _UTILS in sys.modules or lazy_disable is None:
        yield
        return
    placeholder = _placeholder()
    sys.modules[_UTILS] = placeholder
    torch.compiler.disable = lazy_disable
    try:
        yield
    finally:
        torch.compiler.disable = disable
        _remove(placeholder)


def _placeholder() -> ModuleType:
    """Make a module that has `is_compile_supported`, and everything else from the real module."""
    placeholder = ModuleType(_UTILS)

    def from_real_module(name: str) -> object:
        if name.startswith("__"):  # the import system asks every module for some of these
            raise AttributeError(name)
        _remove(placeholder)
        return getattr(import_module(_UTILS), name)

    def is_compile_supported(device_type: str) -> bool:
        return import_module(_UTILS).is_compile_supported(device_type)

    vars(placeholder).update(__getattr__=from_real_module, is_compile_supported=is_compile_supported)
    return placeholder


def _remove(placeholder: ModuleType) -> None:
    if sys.modules.get(_UTILS) is placeholder:
        del sys.modules[_UTILS]


with deferred_compiler():
    import torchvision.transforms.v2  # noqa: F401
