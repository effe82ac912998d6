"""The engine whose source passes are made by ONNX Runtime."""

from __future__ import annotations

from typing import ClassVar

from snow.engine.exporting import require_onnx
from snow.engine.prepared import Prepared
from snow.engine.runtime import runtime_source
from snow.source import Source


class Onnx(Prepared):
    """In single precision, on a CPU. Its first pass takes seconds; tasks that come and go cost nothing there."""

    name: ClassVar[str] = "onnx"

    def __init__(self, source: Source) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source)

    def prepare(self, source: Source) -> Source:
        return runtime_source(source)
