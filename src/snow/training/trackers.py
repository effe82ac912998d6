"""Logs for experiment trackers: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snow.errors import SnowError
from snow.training.history import EpochRecord, RunInfo
from snow.training.listeners import CsvLog, Listener

if TYPE_CHECKING:
    from lightning_fabric.loggers import TensorBoardLogger


class EpochLog(Listener):
    """Writes numbers named LEARNER/FIELD, as in `EpochRecord`, once an epoch.

    A resumed run writes the epochs before it again, so that its log is complete and has no duplicates.
    """

    def on_start(self, run: RunInfo) -> None:
        self.open(run.recipe)
        for epoch in sorted({record.epoch for record in run.history}):
            self._write(record for record in run.history if record.epoch == epoch)

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        self._write(records)

    def on_end(self) -> None:
        self.close()

    @abstractmethod
    def open(self, recipe: Mapping[str, object]) -> None:
        """Start an empty log. `recipe`: names and plain values."""

    @abstractmethod
    def write(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Add the numbers of an epoch, counted from 1."""

    @abstractmethod
    def close(self) -> None:
        """Close the log; called once, also if `open` failed."""

    def _write(self, records: Iterable[EpochRecord]) -> None:
        numbers: dict[str, float] = {}
        epoch = 0
        for record in records:
            epoch = record.epoch
            fields = {name: value for name, value in asdict(record).items() if isinstance(value, float)}
            numbers |= {f"{record.learner}/{name}": value for name, value in fields.items()}
        self.write(numbers, epoch)


class TensorBoardLog(EpochLog):
    """Writes event files in a folder, for `tensorboard --logdir FOLDER`.

    Raises:
        SnowError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._logger: TensorBoardLogger | None = None

    def open(self, recipe: Mapping[str, object]) -> None:
        from lightning_fabric.loggers import TensorBoardLogger

        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        try:
            self._logger = TensorBoardLogger(self.folder, name="", version="")
        except ModuleNotFoundError:
            raise SnowError("TensorBoard is not installed: pip install 'snow-cnn[tensorboard]'") from None
        text = "\n".join(f"    {name}: {value}" for name, value in recipe.items())
        self._logger.experiment.add_text("recipe", text)

    def write(self, numbers: Mapping[str, float], epoch: int) -> None:
        assert self._logger is not None
        self._logger.log_metrics(numbers, step=epoch)
        self._logger.save()

    def close(self) -> None:
        if self._logger is not None:
            self._logger.finalize("success")
            self._logger = None


class WandbLog(EpochLog):
    """Writes a run in a project of Weights & Biases, which reads its environment variables (`WANDB_MODE=offline` …).

    Args:
        folder: of its files; its name is that of the run.

    Raises:
        SnowError: wandb is not installed.
    """

    def __init__(self, folder: str | Path, project: str = "snow") -> None:
        self.folder, self.project = Path(folder), project
        self._run: Any = None

    def open(self, recipe: Mapping[str, object]) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise SnowError("Weights & Biases is not installed: pip install 'snow-cnn[wandb]'") from None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self.project, name=self.folder.name, dir=str(self.folder), config=dict(recipe), reinit="create_new"
        )

    def write(self, numbers: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(numbers), step=epoch)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None


class MlflowLog(EpochLog):
    """Writes a run in an experiment of MLflow, at the address in `MLFLOW_TRACKING_URI`.

    Args:
        folder: its name is that of the run.

    Raises:
        SnowError: mlflow is not installed.
    """

    def __init__(self, folder: str | Path, experiment: str = "snow") -> None:
        self.folder, self.experiment = Path(folder), experiment
        self._client: Any = None
        self._run: str = ""

    def open(self, recipe: Mapping[str, object]) -> None:
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError:
            raise SnowError("MLflow is not installed: pip install 'snow-cnn[mlflow]'") from None
        self._client = MlflowClient()
        known = self._client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self.experiment)
        self._run = self._client.create_run(experiment, run_name=self.folder.name).info.run_id
        for name, value in recipe.items():
            self._client.log_param(self._run, name, value)

    def write(self, numbers: Mapping[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def close(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._run)
            self._client = None


LOGS: dict[str, Callable[[Path], Listener]] = {
    "csv": CsvLog,
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
    "mlflow": MlflowLog,
}
"""By name in `snow train --log`. A new log is one line here."""
