"""From pictures to answers: one pass of the source, read by any number of tasks, by one of several engines."""

from snow.errors import SnowError
from snow.inference.engine import Asked, Eager, Engine, arrange
from snow.inference.fused import Folded
from snow.inference.onnx_backend import Int8, Onnx
from snow.source import Source

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Eager, Folded, Onnx, Int8)}
AUTO = Folded
"""The fastest of those that are ready at once."""


def open_engine(name: str, source: Source) -> Engine:
    """Raises SnowError: there is no engine of this name."""
    if name != "auto" and name not in ENGINES:
        raise SnowError(f"no engine {name!r}: there are auto, {', '.join(ENGINES)}")
    return (AUTO if name == "auto" else ENGINES[name])(source)


__all__ = ["ENGINES", "Asked", "Eager", "Engine", "Folded", "Int8", "Onnx", "arrange", "open_engine"]
