"""Helpers around torch's exporters and ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from snow.errors import SnowError


def require_onnx(purpose: str) -> ModuleType:
    """Import `onnxruntime`, and check that the packages that export to ONNX are there.

    Args:
        purpose: what needs them, for the error message.

    Raises:
        SnowError: one of them is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise SnowError(f"{purpose} needs onnx: pip install 'snow-cnn[onnx]'") from None
    return onnxruntime


def onnx_program(what: str, module: nn.Module, pictures: Tensor, name: str, outputs: Sequence[str]) -> Any:
    """Export a module to a `torch.onnx.ONNXProgram` with a dynamic batch size.

    Args:
        what: what is exported, for the error message.
        pictures: an example batch.
        name: name of the input.
        outputs: names of the outputs.

    Raises:
        SnowError: the module cannot be exported.
    """
    try:
        with quiet_exporters(), torch.no_grad():
            return torch.onnx.export(
                module,
                (pictures,),
                input_names=[name],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise SnowError(f"{what} cannot be exported to ONNX: {first_line(error.__cause__ or error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, or the error's type if there is no message."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet_exporters() -> Generator[None]:
    """Silence exporters: they warn about their internals, and log to the root logger, which would configure it."""
    before, handler = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)
