"""The paper's figures beside ours, as a table and as bars."""

from __future__ import annotations

from pathlib import Path

from snow.experiments.reproduce.panel import Panel, draw, markdown

KNOWN = Panel("Car", {"fo": (51.96, 50.0), "snow": (83.79, None)}, digits=2)
NEW = Panel("ants", {"snow": (None, 1234.5)}, unit="images/s")


def test_a_row_for_each_label_and_no_column_of_the_paper_s_where_it_has_no_figures() -> None:
    assert markdown([KNOWN, NEW], "method").splitlines() == [
        "| method | Car: paper | here | ants: here |",
        "| --- | --- | --- | --- |",
        "| fo | 51.96 | 50.00 | – |",
        "| snow | 83.79 | – | 1,234.5 |",
    ]


def test_a_figure_of_several_seeds_has_its_spread() -> None:
    panel = Panel("Car", {"fo": (51.96, 50.0), "snow": (83.79, 80.0)}, spreads={"fo": 1.25, "snow": None})
    assert markdown([panel], "method").splitlines()[2:] == ["| fo | 52.0 | 50.0 ± 1.2 |", "| snow | 83.8 | 80.0 |"]


def test_panels_are_drawn_whatever_is_missing(tmp_path: Path) -> None:
    draw([KNOWN, NEW], tmp_path / "bars.svg")
    text = (tmp_path / "bars.svg").read_text("utf-8")
    assert text.count("<!-- snow -->") == 2
    assert "<!-- ants, images/s -->" in text
