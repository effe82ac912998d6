"""Listeners of a run: a progress bar, and logs that keep its history in a folder. A new log is one line here."""

from collections.abc import Callable
from pathlib import Path

from snow.training.listeners.listener import CsvLog, Listener, ProgressBar
from snow.training.listeners.trackers import MlflowLog, TensorBoardLog, WandbLog

LOGS: dict[str, Callable[[Path], Listener]] = {
    "csv": CsvLog,
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
    "mlflow": MlflowLog,
}

__all__ = ["LOGS", "CsvLog", "Listener", "MlflowLog", "ProgressBar", "TensorBoardLog", "WandbLog"]
