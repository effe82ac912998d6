"""What torch's exporters and ONNX Runtime's tools need around them."""

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


def onnx_program(what: str, module: nn.Module, pictures: Tensor, name: str, outputs: Sequence[str]) -> Any:
    """A module as a `torch.onnx.ONNXProgram` for any number of pictures.

    Args:
        what: it is, for the error.
        name: of its input.
        outputs: their names.

    Raises:
        SnowError: it does something that cannot be exported.
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
    """Of what it says; its kind where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet_exporters() -> Generator[None]:
    """They warn of their own insides, print, and log to the root, which sets up what was not set up."""
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
