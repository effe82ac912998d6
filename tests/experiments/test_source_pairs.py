"""`benchmarks/source_pairs.py`: what two sources know together, and which single one they are compared with."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.methods.calibration_rows import CalibrationRows

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
source_pairs, regimes, source_tables = map(import_module, ("source_pairs", "regimes", "source_tables"))


def sees(bit: Tensor, label: Tensor, width: int) -> dict[str, CalibrationRows]:
    """What a source says of pictures (n,) that sees one bit of their label only."""
    generator = torch.Generator().manual_seed(width)
    final = bit[:, None] + 0.1 * torch.randn(len(label), width, generator=generator)
    moments = torch.randn(1, len(label), 2, 3, generator=generator)
    return dict.fromkeys(("train", "test"), CalibrationRows(final[None], None, {"tap": moments}, label))


def test_a_pair_knows_what_each_of_them_sees() -> None:
    label = torch.arange(80) % 4
    left, right = sees(label // 2, label, 3), sees(label % 2, label, 4)
    cell = regimes.Cell("pictures", None, 10)
    alone, together = (source_pairs.fitted(sources, cell, 1000, 0) for sources in ([left], [left, right]))
    assert alone["top1"] < 0.8
    assert together["top1"] == 1
    assert together["inputs"] == {"final": 7, "moments": 12}


def test_a_pair_is_compared_with_what_left_out_pictures_prefer_at_its_cost() -> None:
    costs = {name: {"multiplications": count} for name, count in (("a@1", 10), ("b@1", 20), ("c@1", 40), ("d@1", 31))}
    measured = {"a@1": (0.5, 0.9), "b@1": (0.7, 0.6), "c@1": (0.9, 0.9), "d@1": (0.6, 0.8), "a@1+b@1": (0.8, 0.65)}
    runs = {label: {"0": {"left_out_accuracy": left, "top1": top1}} for label, (left, top1) in measured.items()}
    assert source_pairs.leads({"runs": runs}, costs) == {"a@1+b@1": {"against": "b@1", "points": [5.0]}}


def test_weights_are_left_out_of_the_name_of_a_pair() -> None:
    assert source_pairs.label_of("embedded:lite1@64+xception=some/file.pth@96") == "embedded:lite1@64+xception@96"


def test_equal_values_share_a_rank() -> None:
    assert source_tables.spearman([1, 2, 2, 9], [0.1, 0.3, 0.3, 0.2]) == pytest.approx(1 / 3)
    assert source_tables.spearman([1, 2, 3], [5, 4, -1]) == pytest.approx(-1)
