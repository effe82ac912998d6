"""Create and save matplotlib figures. matplotlib is imported with the first one: it is an optional dependency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snow.errors import SnowError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Create a figure of this size in inches.

    Raises:
        SnowError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SnowError("plots need matplotlib: pip install 'snow-cnn[plots]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def literal(name: str) -> str:
    """Write a name that users gave so that matplotlib takes no part of it for a formula."""
    return name.replace("$", r"\$")


def check_picture_path(path: Path) -> None:
    """Check, before hours of work, that a plot can be written to `path`.

    Raises:
        SnowError: matplotlib is not installed, or cannot write files with this suffix.
    """
    if path.suffix[1:].lower() not in new_figure(1, 1).canvas.get_supported_filetypes():
        raise SnowError(f"{path} has no image format: end it in .png, .svg or .pdf")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to `path`.

    Raises:
        SnowError: the suffix is not supported, or the file cannot be written.
    """
    check_picture_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error
