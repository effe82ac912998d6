"""Lifelong results as triangular tables, as a picture and in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snow.errors import SnowError
from snow.experiments.lifelong import forgetting_columns, forgetting_rows, forgetting_table
from snow.experiments.plots.forgetting import draw_forgetting

MEASURED = {"accuracy": [[0.9, 0.8], [None, 0.75]], "forgetting": 0.1}


def _results() -> dict[str, Any]:
    return {
        "command": "snow lifelong ants cars",
        "date": "2026-01-01",
        "versions": {"torch": "2"},
        "hardware": {"cpu": "some", "cores": 2, "gpu": None},
        "source": {"architecture": "timm/x", "weights": "random", "preprocessing": {"image_size": 64}},
        "recipe": {"epochs": 1, "batch_size": 2, "precision": "bf16", "seed": 5},
        "orders": [{"order": order, "methods": {"lf": MEASURED}} for order in (["ants", "cars"], ["cars", "ants"])],
    }


def test_a_row_is_what_became_of_a_task() -> None:
    assert forgetting_columns(["ants", "cars"], "lf") == ("lf", "→ ants", "→ cars")
    assert forgetting_rows(["ants", "cars"], MEASURED) == [("ants", "90.0", "80.0"), ("cars", "", "75.0")]


def test_the_report_has_a_table_for_each_order() -> None:
    text = forgetting_table(_results())
    assert (
        "| lf, top-1 % | → ants | → cars |\n| --- | --- | --- |\n| ants | 90.0 | 80.0 |\n| cars |  | 75.0 |\n" in text
    )
    assert "| lf, top-1 % | → cars | → ants |" in text
    assert text.count("lost on earlier tasks: 10.0 %.") == 2
    assert text.endswith(
        "`snow lifelong ants cars`: timm/x (random) at 64 px, 1 epochs, batch 2, precision bf16, seed 5; some, "
        "2 cores; torch 2, 2026-01-01.\n"
    )


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    draw_forgetting(_results(), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert all(text in drawn for text in ("90.0", "80.0", "75.0", "→ cars"))
    with pytest.raises(SnowError, match="figure has no image format"):
        draw_forgetting(_results(), tmp_path / "figure")
