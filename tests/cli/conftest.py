"""Commands run in this process, on a tiny CNN with random weights that has learned three colours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from snow.cli.app import main

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = ("--epochs", "3", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("taps", "resnet50")`: a command's exit code and what it printed."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def colours(write_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of blue, green and red: 8 of each to learn from, 4 to test on. Only to be read."""
    return write_folder(tmp_path_factory.mktemp("colours") / "pictures")


@pytest.fixture(scope="session")
def learned(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with the task `colours`, which has a delta. Only to be read."""
    hub = tmp_path_factory.mktemp("learned") / "hub"
    options = ["--task", "colours", "--hub", str(hub), "--start", "zero", *TINY, *QUICK]
    assert main(["train", str(colours), *options]) == 0
    return hub


@pytest.fixture
def hub(learned: Path, tmp_path: Path) -> Path:
    """A copy of `learned` to do anything with."""
    return Path(shutil.copytree(learned, tmp_path / "hub"))


@pytest.fixture
def pictures(colours: Path, tmp_path: Path) -> Path:
    """A copy of `colours` to do anything with."""
    return Path(shutil.copytree(colours, tmp_path / "pictures"))


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must be refused: exit code 2, one line of error, no output, not a file more or less."""

    def call(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return result.err

    return call
