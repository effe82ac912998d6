"""What a task may be called: nothing that could lead anywhere else, on any system."""

from __future__ import annotations

import re

from snow.errors import SnowError

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")

DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""What Windows takes for a device, with any extension."""


def check_name(name: str) -> str:
    """Raises SnowError for a name that is not safe as a folder's name everywhere."""
    if not NAME.fullmatch(name) or DEVICE.fullmatch(name):
        raise SnowError(
            f"{name!r} cannot name a task: use 1 to 64 letters, digits, '.', '_' or '-', no leading sign, no '.' at "
            "the end, and no name of a device such as 'con'"
        )
    return name
