"""Print results to stdout, and everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from snow.errors import printable

if TYPE_CHECKING:
    from snow.data.pictures import Progress as ProgressCallback
    from snow.training.listeners import Listener


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with numbers right-aligned. It may exceed 80 columns unless stdout is a terminal.

    Markup in cells is printed literally, and control characters are escaped.
    """
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = all(row[index][:1].isdigit() for row in rows)
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def note(line: str) -> None:
    """Print one line to stderr."""
    print(printable(line), file=sys.stderr)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


@contextmanager
def counting(description: str) -> Generator[ProgressCallback | None, None, None]:
    """Show a progress bar if stderr is a terminal; yield the function to call with (done, total), or None."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def announce(stage: str) -> Sequence[Listener]:
    """Print the name of a training run, and return a progress bar for it."""
    from snow.training.listeners import ProgressBar  # imports torch, which takes seconds

    note(f"{stage} …")
    return (ProgressBar(),)
