"""From pictures to answers: one pass of the source, read by any number of tasks, by one of several engines."""

from snow.errors import SnowError
from snow.inference.engine import EagerEngine, Engine, Request, group_by_task
from snow.inference.fused import FoldedEngine
from snow.inference.onnx_backend import Int8Engine, OnnxEngine
from snow.source import Source

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (EagerEngine, FoldedEngine, OnnxEngine, Int8Engine)
}
AUTO = FoldedEngine
"""The fastest of those that are ready at once."""


def open_engine(name: str, source: Source) -> Engine:
    """Raises SnowError: there is no engine of this name."""
    if name != "auto" and name not in ENGINES:
        raise SnowError(f"no engine {name!r}: there are auto, {', '.join(ENGINES)}")
    return (AUTO if name == "auto" else ENGINES[name])(source)


__all__ = [
    "ENGINES",
    "Request",
    "EagerEngine",
    "Engine",
    "FoldedEngine",
    "Int8Engine",
    "OnnxEngine",
    "group_by_task",
    "open_engine",
]
