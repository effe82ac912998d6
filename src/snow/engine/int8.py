"""The engine whose source computes in 8 bits."""

from __future__ import annotations

from typing import ClassVar

from snow.engine.exporting import require_onnx
from snow.engine.prepared import Prepared
from snow.engine.runtime import runtime_source
from snow.source import Source


class Int8(Prepared):
    """Weights and maps of the source are bytes, see `runtime_source`; what answers stays in single precision. On a CPU.

    Its answers are not quite those of the others: measure a task with it before you rely on it.
    """

    name: ClassVar[str] = "int8"
    exact: ClassVar[bool] = False

    def __init__(self, source: Source) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source)

    def prepare(self, source: Source) -> Source:
        return runtime_source(source, int8=True)
