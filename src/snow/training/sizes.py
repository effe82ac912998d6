"""Parse and format sizes of memory, such as `4GB`."""

from __future__ import annotations

import re

from snow.errors import SnowError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Convert `4GB`, `500 MB` or a plain number to bytes.

    Raises:
        SnowError: the text is not a size, or the size is zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b?)\s*", text, re.IGNORECASE)
    unit = match.group(2).upper() if match else ""
    size = round(float(match.group(1)) * UNITS[unit if unit[-1:] in ("", "B") else f"{unit}B"]) if match else 0
    if size < 1:
        raise SnowError(f"{text!r} is not a size: write 4GB or 500MB")
    return size


def format_size(size: int) -> str:
    """Format a number of bytes with three digits and a unit."""
    unit = max((name for name in UNITS if UNITS[name] <= max(1, size)), key=lambda name: (UNITS[name], len(name)))
    return f"{size / UNITS[unit]:.3g} {unit}"
