"""What the README shows runs, on fewer and smaller pictures."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from snow.cli.app import main

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_folder: Callable[..., Path]) -> Path:
    write_folder(tmp_path / "pictures", train=4, test=2)
    shutil.copy(next((tmp_path / "pictures" / "test").rglob("*.png")), tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    quick = example.replace("Source.embedded()", "Source.embedded(64)")
    small = "recipe=snow.Recipe(epochs=1, batch_size=6), runtime=snow.Runtime(workers=0)"
    quick = quick.replace("recipe=snow.Recipe(epochs=10)", small)
    assert quick.count("64") == quick.count("workers=0") == 1
    exec(compile(quick, "README.md", "exec"), {})
    measured, prediction = capsys.readouterr().out.splitlines()
    assert "'top1'" in measured
    assert prediction.startswith("insects ")


@pytest.mark.slow
def test_the_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [commands] = [block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "snow train" in block]
    for line in commands.strip().splitlines():
        name, *arguments = shlex.split(line, comments=True)
        assert name == "snow"
        if arguments[0] == "train":
            arguments = [{"10": "1"}.get(part, part) for part in arguments]
            arguments += ["--image-size", "64", "--workers", "0", "--batch-size", "6"]
        assert main(arguments) == 0, capsys.readouterr().err
    assert "insects" in capsys.readouterr().out
