"""SNOW: one frozen CNN feeds any number of small task networks that subscribe to its channels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from snow.errors import DamagedError, DivergedError, MismatchError, NoSpaceError, NotFoundError, SnowError

if TYPE_CHECKING:
    from snow.data import Dataset, Pictures, Task, open_dataset
    from snow.delta import Delta
    from snow.hub import Hub
    from snow.hub.artifact import Artifact
    from snow.hub.export import export
    from snow.inference import Failure
    from snow.kinds import (
        KINDS,
        ClassPrediction,
        GradePrediction,
        LabelKind,
        Metrics,
        NumberPrediction,
        Prediction,
        TagPrediction,
    )
    from snow.methods import METHODS, Method, SnowConfig
    from snow.process.interrupt import Interrupted
    from snow.process.startup import keep_freed_memory
    from snow.source import Features, Source
    from snow.source.preprocessing import Preprocessing
    from snow.source.taps import Tap
    from snow.subscribe import SUBSCRIPTIONS, PoolingConfig, Subscription
    from snow.training.evaluate import evaluate
    from snow.training.fit import fit
    from snow.training.history import EpochRecord, Fitted, RunInfo, StepReport
    from snow.training.listeners import CsvLog, Listener, ProgressBar
    from snow.training.recipe import Recipe
    from snow.training.runtime import Runtime
    from snow.training.train import train

__version__ = "0.2.0"

_ROOMS = {
    "Artifact": "hub",
    "ClassPrediction": "kinds",
    "CsvLog": "training.listeners",
    "Dataset": "data",
    "Delta": "delta",
    "EpochRecord": "training.history",
    "Failure": "inference",
    "Features": "source",
    "Fitted": "training.history",
    "GradePrediction": "kinds",
    "Hub": "hub",
    "Interrupted": "process.interrupt",
    "KINDS": "kinds",
    "LabelKind": "kinds",
    "Listener": "training.listeners",
    "METHODS": "methods",
    "Method": "methods",
    "Metrics": "kinds",
    "NumberPrediction": "kinds",
    "Pictures": "data",
    "PoolingConfig": "subscribe",
    "Prediction": "kinds",
    "Preprocessing": "source",
    "ProgressBar": "training.listeners",
    "Recipe": "training.recipe",
    "RunInfo": "training.history",
    "Runtime": "training.runtime",
    "SUBSCRIPTIONS": "subscribe",
    "SnowConfig": "methods",
    "Source": "source",
    "StepReport": "training.history",
    "Subscription": "subscribe",
    "TagPrediction": "kinds",
    "Tap": "source",
    "Task": "data",
    "evaluate": "training.evaluate",
    "export": "hub.export",
    "fit": "training.fit",
    "keep_freed_memory": "process.startup",
    "open_dataset": "data",
    "train": "training.train",
}
"""Where each public name lives. It is imported on first use: torch alone takes seconds."""

__all__ = [
    "KINDS",
    "METHODS",
    "SUBSCRIPTIONS",
    "Artifact",
    "ClassPrediction",
    "CsvLog",
    "DamagedError",
    "Dataset",
    "Delta",
    "DivergedError",
    "EpochRecord",
    "Failure",
    "Features",
    "Fitted",
    "GradePrediction",
    "Hub",
    "Interrupted",
    "LabelKind",
    "Listener",
    "Method",
    "Metrics",
    "MismatchError",
    "NoSpaceError",
    "NotFoundError",
    "NumberPrediction",
    "Pictures",
    "PoolingConfig",
    "Prediction",
    "Preprocessing",
    "ProgressBar",
    "Recipe",
    "RunInfo",
    "Runtime",
    "SnowConfig",
    "SnowError",
    "Source",
    "StepReport",
    "Subscription",
    "TagPrediction",
    "Tap",
    "Task",
    "evaluate",
    "export",
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
