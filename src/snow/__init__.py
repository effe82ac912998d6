"""SNOW: one frozen CNN feeds any number of small task networks that subscribe to its channels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from snow.errors import SnowError

if TYPE_CHECKING:
    from snow.data import Dataset, Pictures, Task, open_dataset
    from snow.hub import Hub
    from snow.hub.artifact import Artifact
    from snow.inference import ClassPrediction, Failure, Prediction
    from snow.methods import METHODS, Method, SnowConfig
    from snow.process.startup import keep_freed_memory
    from snow.source import Features, Source
    from snow.source.preprocessing import Preprocessing
    from snow.source.taps import Tap
    from snow.subscribe import SUBSCRIPTIONS, PoolingConfig
    from snow.training.evaluate import Metrics, evaluate
    from snow.training.fit import Fitted, fit
    from snow.training.recipe import Recipe
    from snow.training.train import train

__version__ = "0.1.0"

_ROOMS = {
    "Artifact": "hub",
    "ClassPrediction": "inference",
    "Dataset": "data",
    "Failure": "inference",
    "Features": "source",
    "Fitted": "training.fit",
    "Hub": "hub",
    "METHODS": "methods",
    "Method": "methods",
    "Metrics": "training.evaluate",
    "Pictures": "data",
    "PoolingConfig": "subscribe",
    "Prediction": "inference",
    "Preprocessing": "source",
    "Recipe": "training.recipe",
    "SUBSCRIPTIONS": "subscribe",
    "SnowConfig": "methods",
    "Source": "source",
    "Tap": "source",
    "Task": "data",
    "evaluate": "training.evaluate",
    "fit": "training.fit",
    "keep_freed_memory": "process.startup",
    "open_dataset": "data",
    "train": "training.train",
}
"""Where each public noun lives. It is imported when it is first asked for: torch alone takes seconds."""

__all__ = [
    "METHODS",
    "SUBSCRIPTIONS",
    "Artifact",
    "ClassPrediction",
    "Dataset",
    "Failure",
    "Features",
    "Fitted",
    "Hub",
    "Method",
    "Metrics",
    "Pictures",
    "PoolingConfig",
    "Prediction",
    "Preprocessing",
    "Recipe",
    "SnowConfig",
    "SnowError",
    "Source",
    "Tap",
    "Task",
    "evaluate",
    "fit",
    "keep_freed_memory",
    "open_dataset",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'snow' has no attribute {name!r}")
    value = getattr(import_module(f"snow.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
