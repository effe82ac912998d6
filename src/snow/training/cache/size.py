"""Sizes of memory as people write them."""

from __future__ import annotations

import re

from snow.errors import SnowError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Bytes, from such as `4GB`, `500 MB` or a plain number.

    Raises:
        SnowError: it is not a size, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b?)\s*", text, re.IGNORECASE)
    unit = found.group(2).upper() if found else ""
    size = round(float(found.group(1)) * UNITS[unit if unit[-1:] in ("", "B") else f"{unit}B"]) if found else 0
    if size < 1:
        raise SnowError(f"{text!r} is no size: write 4GB or 500MB")
    return size


def shown_size(size: int) -> str:
    """Three digits and a unit."""
    unit = max((one for one in UNITS if UNITS[one] <= max(1, size)), key=lambda one: (UNITS[one], len(one)))
    return f"{size / UNITS[unit]:.3g} {unit}"
