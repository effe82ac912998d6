"""What the page on rivals says is so: names, options, figures."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from snow.cli.app import main
from snow.errors import SnowError
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.source import Source
from snow.subscribe import SUBSCRIPTIONS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "rivals.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
COUNTING = "snow params --source resnet50 --classes 101,47,40,196,200"


def rows(page: str, first: str) -> Iterator[tuple[list[str], list[str]]]:
    """Header and row of each table row of `page` that starts with `first`."""
    header: list[str] = []
    before = ""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and not before.startswith("|"):
            header = cells
        elif line.startswith(f"| {first} |"):
            yield header, cells
        before = line


def paragraph(method: str) -> str:
    [found] = [part for part in PAGE.split("\n\n") if part.startswith(f"**`{method}`")]
    return " ".join(found.split())


@pytest.fixture(scope="module")
def counts() -> Any:
    pytest.importorskip("peft")
    with redirect_stdout(StringIO()) as out:
        assert main([*shlex.split(COUNTING)[1:], "--variants", "", "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.mark.slow
def test_the_tables_hold_what_the_command_counts(counts: Any) -> None:
    assert f"{COUNTING}\n" in PAGE
    found = {name: f"{entry['total'] / 1e6:.1f}" for name, entry in counts["methods"].items()}
    found |= {name: f"{entry['overhead'] / 1e6:.1f}" for name, entry in counts["subscriptions"].items()}
    said = {name: cell for header, row in rows(PAGE, "here") for name, cell in zip(header[1:], row[1:], strict=True)}
    assert said == found
    assert set(said) == {*METHODS, *SUBSCRIPTIONS}


@pytest.mark.slow
def test_the_readme_s_table_holds_what_the_command_counts(counts: Any) -> None:
    assert f"`{COUNTING}`" in README
    [(header, row)] = rows(README, "here")
    for name, cell in zip(header[1:], row[1:], strict=True):
        assert cell == f"{counts['methods'][name.lower()]['total'] / 1e6:.1f}"


@pytest.mark.slow
@pytest.mark.parametrize(("table", "tolerance"), [("paper, Table 5", 0.01), ("paper, Table 6", 0.1)])
def test_the_paper_s_figures_are_met(counts: Any, table: str, tolerance: float) -> None:
    found = {name: entry["total"] for name, entry in counts["methods"].items()}
    found |= {name: entry["overhead"] for name, entry in counts["subscriptions"].items()}
    [(header, row)] = rows(PAGE, table)
    figures = {name: float(cell) for name, cell in zip(header[1:], row[1:], strict=True) if cell != "–"}
    assert len(figures) >= 4
    for name, figure in figures.items():
        assert found[name] == pytest.approx(figure * 1e6, rel=tolerance), name


def test_the_readme_and_the_page_quote_the_paper_alike() -> None:
    [(header, row)] = rows(README, "paper, Table 5")
    [(names, figures)] = rows(PAGE, "paper, Table 5")
    in_page = dict(zip(names[1:], figures[1:], strict=True))
    assert {name.lower(): cell for name, cell in zip(header[1:], row[1:], strict=True)}.items() <= in_page.items()


@pytest.mark.parametrize("name", METHODS)
def test_options_are_those_that_a_method_has(name: str, resnet: Source) -> None:
    if extra := METHODS[name].extra:
        pytest.importorskip(extra)
    _, _, listed = paragraph(name).partition(" Option")
    with pytest.raises(SnowError) as refused:
        METHODS[name].build(resnet, 3, {"no_such_option": 1})
    _, _, known = str(refused.value).partition(": ")
    assert re.findall(r"`([a-z_]+)", listed.partition(";")[0]) == re.findall(r"[a-z0-9_]+(?=,|$)", known)


def test_every_subscription_is_described() -> None:
    assert all(f"- **`{name}`**: " in PAGE for name in SUBSCRIPTIONS)


def test_labels_in_the_examples_can_be_built(resnet: Source) -> None:
    labels = re.findall(r"--methods? (\S+)", PAGE)
    assert len(labels) == 3
    for variant in (variant for label in labels for variant in Variant.parse(label)):
        assert variant.build(resnet, 3).num_classes == 3
