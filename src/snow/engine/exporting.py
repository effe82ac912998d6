"""What torch's exporters need around them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType

from snow.errors import SnowError


def require_onnx(purpose: str) -> ModuleType:
    """The module `onnxruntime`, with what writes files for it installed beside it.

    Raises:
        SnowError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise SnowError(f"{purpose} needs onnx: pip install 'snow-cnn[onnx]'") from None
    return onnxruntime


@contextmanager
def quiet_exporters() -> Generator[None]:
    """Exporters of torch warn of their own insides, and print."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
