"""`snow export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


def test_a_hub_becomes_one_file(run: Callable[..., Any], learned: Path, tmp_path: Path) -> None:
    result = run("export", learned, tmp_path / "hub.pt2", "--source-head")
    assert result.code == 0
    assert "colours, (source)" in result.out
    answers = torch.export.load(tmp_path / "hub.pt2").module()(torch.zeros(4, 3, 64, 64, dtype=torch.uint8))
    assert answers["colours"].shape == (4, 3)


@pytest.mark.parametrize(
    ("file", "rest", "told"),
    [("x.zip", (), "ends in neither"), ("x.pt2", ("--tasks", "none"), "no task 'none'")],
)
def test_what_cannot_be_exported_is_refused(
    run: Callable[..., Any], learned: Path, tmp_path: Path, file: str, rest: tuple[str, ...], told: str
) -> None:
    result = run("export", learned, tmp_path / file, *rest)
    assert result.code == 2
    assert told in result.err.splitlines()[-1]
    assert list(tmp_path.glob("x*")) == []
