"""What commands print: results on the standard output, everything else on the standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from snow.data.pictures import Progress as Report
from snow.training.listeners import Listener, ProgressBar


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Numbers to the right, the rest to the left; as wide as it needs to be, unless it goes to a terminal.

    Nothing in a cell is taken for markup.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = all(row[index][:1].isdigit() for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def note(line: str) -> None:
    """One line for whoever watches."""
    print(line, file=sys.stderr)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


@contextmanager
def counting(what: str) -> Generator[Report | None, None, None]:
    """A bar on the standard error, if that is a terminal, and what to call with (done, total)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def announced(stage: str) -> Sequence[Listener]:
    """Names the stage, and shows how far it is."""
    note(f"{stage} …")
    return (ProgressBar(),)
