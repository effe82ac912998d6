from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tiny import built, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source

from snow.errors import SnowError
from snow.process.interrupt import Interrupted
from snow.training.fit import fit
from snow.training.history import EpochRecord, Fitted, RunInfo, StepReport
from snow.training.listeners import CsvLog, Listener, ProgressBar
from snow.training.trackers import LOGS, TensorBoardLog


def run(listeners: list[Listener], **options: Any) -> Fitted:
    recipe = tiny_recipe(**options.pop("recipe", {"validation": 0.25}))
    return fit(
        tiny_source(),
        {"colour": built()},
        tiny_dataset(),
        recipe,
        runtime=tiny_runtime(),
        listeners=listeners,
        **options,
    )


class Recorder(Listener):
    def __init__(self, fail_at: str = "") -> None:
        self.calls: list[Any] = []
        self.fail_at = fail_at

    def on_start(self, run: RunInfo) -> None:
        self._note("start", run)

    def on_step(self, report: StepReport) -> None:
        self._note("step", report)

    def on_epoch(self, records: Any) -> None:
        self._note("epoch", records)

    def on_end(self) -> None:
        self._note("end", None)

    def _note(self, name: str, value: Any) -> None:
        self.calls.append((name, value))
        if name == self.fail_at:
            raise ValueError(name)


def test_what_a_listener_hears() -> None:
    recorder = Recorder()
    fitted = run([recorder])
    names = [name for name, _ in recorder.calls]
    assert names == ["start"] + ["step"] * 3 + ["epoch"] + ["step"] * 3 + ["epoch"] + ["step"] * 3 + ["epoch", "end"]
    info = recorder.calls[0][1]
    assert (info.learners, info.epochs, info.batches, info.first_step, info.history) == (("colour",), 3, 3, 0, ())
    steps = [value for name, value in recorder.calls if name == "step"]
    assert [(report.step, report.epoch) for report in steps] == [(i + 1, i // 3 + 1) for i in range(9)]
    last = fitted.history[-1]
    assert steps[-1].loss == {"colour": last.loss}
    assert steps[-1].accuracy == {"colour": last.accuracy}
    assert [value for name, value in recorder.calls if name == "epoch"][-1] == [last]


@pytest.mark.parametrize("fail_at", ["start", "step", "epoch"])
def test_the_end_is_heard_however_it_comes(fail_at: str) -> None:
    first, second = Recorder(), Recorder(fail_at)
    with pytest.raises(ValueError, match=fail_at):
        run([first, second])
    assert first.calls[-1][0] == second.calls[-1][0] == "end"


def test_csv_has_the_history_also_after_resuming(tmp_path: Path) -> None:
    class Stop(Listener):
        def on_step(self, report: StepReport) -> None:
            if report.step == 5:
                import signal

                signal.raise_signal(signal.SIGTERM)

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        run([CsvLog(tmp_path / "logs"), Stop()], checkpoint=checkpoint)
    fitted = run([CsvLog(tmp_path / "logs")], checkpoint=checkpoint, resume=True)
    with open(tmp_path / "logs" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["learner"], int(row["epoch"])) for row in rows] == [("colour", 1), ("colour", 2), ("colour", 3)]
    for row, record in zip(rows, fitted.history, strict=True):
        assert float(row["loss"]) == record.loss
        assert float(row["validation"]) == record.validation


def test_csv_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnowError, match="cannot write the log"):
        run([CsvLog(tmp_path / "file")])


def test_tensorboard_holds_every_epoch_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run([TensorBoardLog(tmp_path)])
    fitted = run([TensorBoardLog(tmp_path)])
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("colour/validation")
    assert [event.step for event in scalars] == [1, 2, 3]
    assert [event.value for event in scalars] == pytest.approx([record.validation for record in fitted.history])
    assert {"colour/loss", "colour/accuracy", "colour/lr", "colour/seconds"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_extra_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    if name == "tensorboard":
        monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
        monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(SnowError, match=rf"pip install 'snow-cnn\[{name}\]'"):
        run([LOGS[name](tmp_path)])


def test_wandb_gets_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    handle = SimpleNamespace(
        log=lambda numbers, step: logged.append((step, numbers)), finish=lambda: logged.append("end")
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: logged.append(options) or handle))
    fitted = run([LOGS["wandb"](tmp_path / "insects")])
    assert logged[0]["project"] == "snow"
    assert logged[0]["name"] == "insects"
    assert logged[0]["config"]["epochs"] == 3
    assert [entry[0] for entry in logged[1:-1]] == [1, 2, 3]
    assert logged[3][1]["colour/loss"] == fitted.history[-1].loss
    assert logged[-1] == "end"


def test_mlflow_gets_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics: list[Any] = []
    ended: list[str] = []
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: "7",
        create_run=lambda experiment, run_name: SimpleNamespace(
            info=SimpleNamespace(run_id=f"{experiment}-{run_name}")
        ),
        log_param=lambda run, name, value: None,
        log_metric=lambda run, name, value, step: metrics.append((run, name, value, step)),
        set_terminated=ended.append,
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    fitted = run([LOGS["mlflow"](tmp_path / "insects")])
    losses = [entry for entry in metrics if entry[1] == "colour/loss"]
    assert losses == [("7-insects", "colour/loss", record.loss, record.epoch) for record in fitted.history]
    assert ended == ["7-insects"]


def test_each_kind_of_label_has_its_own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=(screen := io.StringIO()), force_terminal=False, width=300)
    monkeypatch.setattr("snow.training.listeners.Console", lambda stderr: console)
    scores = {"class": ("top1", 0.8), "multi": ("map", 0.4), "number": ("r2", -0.167), "ordered": ("mae_grades", -0.5)}
    kinds = {f"{kind} {n}": kind for kind in scores for n in (1, 2)}
    records = [
        EpochRecord(name, 1, 0.5, 0.25, scores[kind][1], 0.1, 100.0, 1.0, scores[kind][0])
        for name, kind in kinds.items()
    ]
    bar = ProgressBar()
    bar.on_start(RunInfo(tuple(kinds), 2, 3, {}, 0, (), kinds=kinds))
    bar.on_epoch(records)
    assert screen.getvalue() == (
        "epoch 1/2: loss 0.500, accuracy 25.0%, tags right 25.0%, within 0.5 SD 25.0%, grades right 25.0%, "
        "100 images/s, validation top-1 80.0%, mAP 40.0%, R² -0.167, MAE in grades 0.5\n"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_loss_accuracy_speed_and_time(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, legacy_windows=False)
    monkeypatch.setattr("snow.training.listeners.Console", lambda stderr: console)
    monkeypatch.setattr("snow.training.listeners._REDRAW_SECONDS", 0)
    run([ProgressBar()])
    text = screen.getvalue()
    for word in ("epoch", "3/3", "loss", "accuracy", "images/s"):
        assert word in text
    if terminal:
        assert "left" in text
        assert "\x1b[?25h" in text, "the cursor is back"
    else:
        assert text.count("\n") == 3
        assert "validation" in text
