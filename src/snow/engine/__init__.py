"""Engines: the ways to run a hub. A new one is one file and one line here."""

from snow.engine.arrange import arrange
from snow.engine.eager import Eager
from snow.engine.engine import Asked, Engine
from snow.engine.folded import Folded
from snow.engine.int8 import Int8
from snow.engine.onnx import Onnx
from snow.errors import SnowError
from snow.source import Source

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Eager, Folded, Onnx, Int8)}
AUTO = Folded
"""The fastest of those that are ready at once."""


def open_engine(name: str, source: Source) -> Engine:
    """Raises SnowError: there is no engine of this name."""
    if name != "auto" and name not in ENGINES:
        raise SnowError(f"no engine {name!r}: there are auto, {', '.join(ENGINES)}")
    return (AUTO if name == "auto" else ENGINES[name])(source)


__all__ = ["ENGINES", "Asked", "Engine", "arrange", "open_engine"]
