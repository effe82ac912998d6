"""`snow sweep`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = ("--epochs", "1", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none")


def test_a_sweep(run: Callable[..., Any], colours: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    arguments = ("sweep", colours, *TINY, *QUICK, "--width", "0.25", "--over", "keep=1/4", "--over", "sigma2=1e-1")
    result = run(*arguments, "--out", out, "--plot", plot)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["option", "value", "top-1", "%", "top-5", "%", "learned", "parameters"]
    assert [line.split()[0] for line in lines[-4:]] == ["keep", "keep", "pooling.sigma2", "pooling.sigma2"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(out.read_text())
    assert saved["options"]["width"] == 0.25
    assert saved["data"]["path"] == "pictures"
    assert {trial["variant"].split(":")[1] for trial in saved["trials"]} == {"width=0.25"}
    again = run(*arguments, "--out", out, "--json")
    assert again.json["trials"] == saved["trials"]
    assert "seed" not in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--over", "kep=1"), "unknown option 'kep'"),
        (("--over", "keep=4"), "ratio"),
        (("--over", "keep=1/4", "--plot", "sweep.txt"), "no image format"),
        (("--over", "keep=1/4", "--seeds", "0"), "at least one seed"),
        (("--over", "keep=1/4", "--held-out", "2"), "hold out"),
    ],
)
def test_a_wrong_sweep_is_refused(
    refused: Callable[..., str], colours: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in refused("sweep", colours, *TINY, *QUICK, *options)
