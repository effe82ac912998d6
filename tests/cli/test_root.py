"""`--root`: where the paths of a table start, in every command that opens one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = (
    *("--source", "test_resnet", "--no-pretrained", "--image-size", "64"),
    *("--epochs", "1", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none"),
)
COMMANDS = {
    "train": ("--task", "a", "--hub", "{new}"),
    "compare": ("--methods", "fo", "--rates", "0.01", "--no-costs"),
    "sweep": ("--over", "keep=1/4"),
    "lifelong": ("{folder}", "--methods", "fo"),
}


@pytest.fixture
def table(colours: Path, tmp_path: Path) -> Path:
    """A table with paths relative to `colours`, which lies elsewhere."""
    paths = sorted(colours.rglob("*.png"))
    rows = [f"{path.relative_to(colours)},{path.parent.name},{path.parts[-3]}" for path in paths]
    file = tmp_path / "elsewhere" / "table.csv"
    file.parent.mkdir()
    file.write_text("\n".join(["path,label,split", *rows]) + "\n")
    return file


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_of_a_table_start_in_the_root(
    command: str, run: Callable[..., Any], table: Path, colours: Path, tmp_path: Path
) -> None:
    options = [option.format(new=tmp_path / "hub", folder=colours) for option in COMMANDS[command]]
    result = run(command, table, *options, *QUICK)
    assert result.code == 2
    assert "no picture is there" in result.err
    result = run(command, table, *options, "--root", tmp_path / "missing", *QUICK)
    assert result.err == f"error: {tmp_path / 'missing'}: there is no such folder\n"
    result = run(command, table, *options, "--root", colours, *QUICK)
    assert result.code == 0, result.err


@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_a_folder_has_no_root(command: str, refused: Callable[..., str], colours: Path, tmp_path: Path) -> None:
    options = [option.format(new=tmp_path / "hub") for option in COMMANDS[command]]
    assert "root is for a table" in refused(command, colours, *options, "--root", tmp_path, *QUICK)


def test_folders_alone_have_no_root(refused: Callable[..., str], colours: Path, tmp_path: Path) -> None:
    assert "root is for a table" in refused("lifelong", colours, colours, "--root", tmp_path, *QUICK)
