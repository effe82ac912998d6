"""`snow sources rank`, and `--image-size auto`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RANDOM = ("--sources", "test_resnet", "--no-pretrained")


def test_a_ranking(run: Callable[..., Any], colours: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "rank.json", tmp_path / "rank.png"
    arguments = ("sources", "rank", colours, *RANDOM, "--image-size", "64", "--out", out)
    result = run(*arguments, "--plot", plot, "--within", "10s")
    assert result.code == 0
    header, row, *_, sentence = result.out.splitlines()
    assert header.split()[:3] == ["source", "px", "accuracy"]
    assert row.split()[:2] == ["test_resnet", "64"]
    assert sentence.startswith("test_resnet at 64 px knows most about these pictures within 10000 ms a picture:")
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = run(*arguments, "--json").json
    assert again["choice"] == "test_resnet@64"
    assert again["sources"] == json.loads(out.read_text())["sources"]
    assert again["sources"]["test_resnet@64"]["pictures"] == 24


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((*RANDOM, "--within", "5"), "--within takes a time such as 50ms"),
        ((*RANDOM, "--memory", "much"), "'much' is not a size"),
        ((*RANDOM, "--image-size", "large"), "--image-size takes auto or whole numbers"),
        ((*RANDOM, "--pictures", "1"), "--pictures must be at least 4"),
        (("--sources", "no_such_net"), "no_such_net: timm has no model 'no_such_net'"),
        (("--sources", "embedded:lite9"), "there is no source embedded:lite9"),
    ],
)
def test_a_wrong_ranking_is_one_line(
    refused: Callable[..., str], colours: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in refused("sources", "rank", colours, *options)


@pytest.mark.slow
def test_train_measures_the_size(run: Callable[..., Any], colours: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    options = ("--source", "test_resnet", "--no-pretrained", "--method", "fo", "--epochs", "1", "--workers", "0")
    result = run("train", colours, "--task", "one", "--hub", hub, *options, "--image-size", "auto")
    assert result.code == 0, result.err
    size = json.loads((hub / "source.json").read_text())["preprocessing"]["image_size"]
    assert f"image size: {size} px is the smallest within the error" in result.err
    again = run("train", colours, "--task", "two", "--hub", hub, *options[2:], "--image-size", "auto")
    assert again.code == 0, again.err
    assert "smallest" not in again.err


def test_elsewhere_auto_is_refused(refused: Callable[..., str], colours: Path) -> None:
    options = ("--source", "test_resnet", "--no-pretrained", "--image-size", "auto")
    assert "use it with snow train or snow sources rank" in refused("compare", colours, *options)
