"""Output whose encoding lacks a character, and names that are not UTF-8."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SNOW = [sys.executable, "-m", "snow"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_class_that_the_output_cannot_show_is_escaped(encoding: str, hub: Path) -> None:
    config = hub / "tasks" / "colours" / "config.json"
    values = json.loads(config.read_text("utf-8"))
    values["classes"] = ["\u732b", "\u72ac", "\u00e9"]
    config.write_text(json.dumps(values), "utf-8")
    (config.parent / "fingerprint.json").unlink()
    ended = subprocess.run(
        [*SNOW, "hub", "show", f"{hub}/colours"], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert ended.returncode == 0, ended.stderr
    shown = "\u732b" if encoding == "utf-8" else "\\u732b"
    assert shown in ended.stdout.decode(encoding)
    assert b"Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_not_utf_8_is_trained_on(run: Callable[..., Any], hub: Path, pictures: Path) -> None:
    place = os.fsdecode(os.fsencode(pictures) + b"-caf\xe9")
    shutil.move(pictures, place)
    options = ("--epochs", "1", "--batch-size", "8", "--workers", "0", "--method", "fo")
    assert run("train", place, "--task", "odd", "--hub", hub, *options).code == 0
    assert run("eval", hub, place, "--task", "odd").code == 0
    shown = run("predict", hub, f"{place}/test/red/11.png")
    shown.out.encode()
    ended = subprocess.run([*SNOW, "hub", "show", f"{hub}/odd"], capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"caf\\udce9" in ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_class_whose_name_is_not_utf_8_is_refused_before_training(
    refused: Callable[..., str], hub: Path, pictures: Path
) -> None:
    os.rename(pictures / "train" / "red", os.fsencode(pictures / "train") + b"/r\xe9d")
    place = os.fsdecode(os.fsencode(hub) + b"\xe9")
    assert "the path of hub '" in refused("train", pictures, "--task", "new", "--hub", place)
    assert "class folder 'r\\udce9d' is not text in UTF-8: rename it" in refused(
        "train", pictures, "--task", "new", "--hub", hub
    )
