"""`benchmarks/gpu.py`: every stage runs at the smallest size, and every command of the real sizes is understood."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from types import ModuleType, SimpleNamespace

import pytest

from snow.cli import main

TABLES = ["table8", "table8", "table5", "table5", "table8", "table8"]
"""Stages that need no images, in order: each in single precision and in bf16."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, in_this_process: None) -> ModuleType:
    """The script, with the commands of its stages run in this process."""

    def run(command: Sequence[str], timeout: float, **_: object) -> SimpleNamespace:
        if timeout <= 1:
            raise TimeoutExpired(command, timeout)
        assert command[:3] == [sys.executable, "-m", "snow"]
        return SimpleNamespace(returncode=main(command[3:]))

    spec = importlib.util.spec_from_file_location("gpu", Path(__file__).parents[2] / "benchmarks" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run, DEVNULL=None, TimeoutExpired=TimeoutExpired))
    return module


@pytest.fixture
def cars(tmp_path: Path, write_folder: Callable[..., Path]) -> Path:
    return write_folder(tmp_path / "data" / "cars196").parent


@pytest.mark.slow
def test_every_command_of_the_real_sizes_is_understood(gpu: ModuleType, cars: Path, tmp_path: Path) -> None:
    todo = list(gpu.stages(cars, None, False))
    assert [stage.table for stage in todo] == [*TABLES[:4], "table7", *TABLES[4:]]
    assert len({stage.name for stage in todo}) == len(todo)
    for stage in todo:
        random = () if "--no-pretrained" in stage.options else ("--no-pretrained",)
        estimate = ("--estimate", "--out", str(tmp_path / stage.name))
        assert main(["reproduce", stage.table, *stage.options, *random, *estimate]) == 0


@pytest.mark.slow
def test_every_stage_is_measured_at_the_smallest_size(gpu: ModuleType, cars: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    places = ["--folder", str(tmp_path / "work"), "--results", str(results)]
    assert gpu.main(["--tiny", "--data", str(cars), *places]) is None
    tables = [json.loads(path.read_text("utf-8"))["experiment"] for path in sorted(results.iterdir())]
    assert tables == sorted([*TABLES, "table7"])


def test_a_stage_without_time_or_success_is_named_and_the_others_go_on(
    gpu: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unknown = gpu.Stage("unknown", "table99", ())
    assert gpu.run([unknown], tmp_path, tmp_path, 300) == ["unknown"]
    assert "table99" in capfd.readouterr().err
    assert gpu.run([unknown], tmp_path, tmp_path, -1) == ["unknown"]
    assert "the time is up" in capfd.readouterr().err
