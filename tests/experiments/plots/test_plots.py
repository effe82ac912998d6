"""Pictures are drawn whatever there is to draw, and show what they should."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snow.errors import SnowError
from snow.experiments.plots.channels import draw_overlap, draw_selection
from snow.experiments.plots.figure import new_figure, save_figure
from snow.subscribe import SelectionHistory


def choices(taps: int = 1, moments: int = 5, channels: int = 64, batches: int = 2) -> SelectionHistory:
    masks = torch.zeros(moments, channels, dtype=torch.bool)
    masks[: moments // 2, : channels // 2] = True
    masks[moments // 2 :, channels // 2 :] = True
    return SelectionHistory(torch.arange(moments), batches, {f"tap{index}": masks for index in range(taps)})


def test_channels_go_across_and_iterations_down(tmp_path: Path) -> None:
    """Left channels first, right ones later: the panel is dark in two opposite quarters."""
    draw_selection(choices(), "title", tmp_path / "choice.png")
    page = np.asarray(Image.open(tmp_path / "choice.png").convert("L")).astype(float)
    height, width = page.shape

    def shade(x: float, y: float) -> float:
        """Of a spot, as a part of the page."""
        spot = page[int((y - 0.04) * height) : int((y + 0.04) * height), int((x - 0.05) * width) : int(x * width)]
        return float(np.median(spot))

    assert shade(0.3, 0.3) < 50 < 200 < shade(0.8, 0.3)
    assert shade(0.8, 0.7) < 50 < 200 < shade(0.3, 0.7)


def test_epochs_are_dotted(tmp_path: Path) -> None:
    for batches in (2, 100):
        draw_selection(choices(batches=batches), "title", tmp_path / f"{batches}.png")
    red = {
        batches: int((np.ptp(np.asarray(Image.open(tmp_path / f"{batches}.png").convert("RGB")), axis=2) > 60).sum())
        for batches in (2, 100)
    }
    assert red[2] > 100
    assert red[100] == 0


@pytest.mark.parametrize(("taps", "moments"), [(1, 1), (2, 2), (3, 300), (17, 3)])
def test_any_record_can_be_drawn(tmp_path: Path, taps: int, moments: int) -> None:
    draw_selection(choices(taps, moments, channels=9, batches=1), "title", tmp_path / "sub" / "choice.svg")
    assert (tmp_path / "sub" / "choice.svg").read_text().count("tap") >= taps


@pytest.mark.parametrize("pairs", [1, 3, 30])
def test_overlap_can_be_drawn(tmp_path: Path, pairs: int) -> None:
    entry = {"iou": 0.53, "chance": 0.1}
    rows = [{"tasks": ["a", str(index)], "taps": {"one": entry}, **entry} for index in range(pairs)]
    draw_overlap({"pairs": [*rows, {"tasks": ["a", "z"], "taps": {"two": entry}}]}, "title", tmp_path / "overlap.png")
    assert (tmp_path / "overlap.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_a_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnowError, match=r"x.txt has no image format: end it in .png"):
        save_figure(new_figure(1, 1), tmp_path / "x.txt")
    with pytest.raises(SnowError, match="cannot be written"):
        save_figure(new_figure(1, 1), tmp_path / "file" / "x.png")


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SnowError, match=r"pip install 'snow-cnn\[plots\]'"):
        new_figure(1, 1)
