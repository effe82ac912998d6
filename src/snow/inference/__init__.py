"""Inference: from pictures to predictions, with one pass of the source for all tasks and a choice of engines.

`predictor` is the way of a picture, `prediction` what comes out and how it becomes JSON, `features` the pass that any
number of tasks read. `engine`, `fused` and `onnx_backend` are the engines.
"""

from pathlib import Path

from snow.errors import SnowError
from snow.inference.auto import AutoEngine
from snow.inference.compiled.engine import CompiledEngine
from snow.inference.engine import EagerEngine, Engine
from snow.inference.fused import FoldedEngine
from snow.inference.onnx_backend import Int8Engine, OnnxEngine
from snow.inference.prediction import SOURCE_HEAD, Failure, encode, rejecting, require_share
from snow.inference.predictor import Predictor, Request, group_by_task, tasks_per_picture
from snow.inference.stacked_engine import StackedEngine
from snow.kinds import ClassPrediction, Prediction
from snow.source import Source

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (EagerEngine, FoldedEngine, StackedEngine, CompiledEngine, OnnxEngine, Int8Engine)
}
AUTO = AutoEngine
"""Chooses by a measurement, and starts at once."""


def open_engine(name: str, source: Source, folder: Path | None = None) -> Engine:
    """Create the engine of this name; "auto" is the fastest that starts at once.

    Args:
        folder: for what takes long to prepare, see `Engine`.

    Raises:
        SnowError: there is no engine of this name, or it needs a package that is not installed.
    """
    if name != "auto" and name not in ENGINES:
        raise SnowError(f"no engine {name!r}: there are auto, {', '.join(ENGINES)}")
    return (AUTO if name == "auto" else ENGINES[name])(source, folder)


__all__ = [
    "ENGINES",
    "SOURCE_HEAD",
    "AutoEngine",
    "ClassPrediction",
    "CompiledEngine",
    "EagerEngine",
    "Engine",
    "Failure",
    "FoldedEngine",
    "Int8Engine",
    "OnnxEngine",
    "Prediction",
    "Predictor",
    "Request",
    "StackedEngine",
    "encode",
    "group_by_task",
    "open_engine",
    "rejecting",
    "require_share",
    "tasks_per_picture",
]
