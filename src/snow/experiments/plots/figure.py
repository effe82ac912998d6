"""A figure to draw on, and the file that it ends in. matplotlib is imported when the first one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snow.errors import SnowError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Of this size in inches.

    Raises:
        SnowError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SnowError("pictures need matplotlib: pip install 'snow-cnn[plots]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def check(path: Path) -> None:
    """Before the work that is to be drawn.

    Raises:
        SnowError: matplotlib is not installed, or the path's ending names no kind of picture.
    """
    if path.suffix[1:].lower() not in new_figure(1, 1).canvas.get_supported_filetypes():
        raise SnowError(f"{path} names no kind of picture: end it in .png, .svg or .pdf")


def save(figure: Figure, path: Path) -> None:
    """Raises SnowError: its ending names no kind of picture, or it cannot be written."""
    check(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error
