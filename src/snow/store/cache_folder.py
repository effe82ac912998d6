"""The folder for what can be made again: compiled code and measurements of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, which may not exist yet: `SNOW_CACHE`, or `snow` in the user's cache folder."""
    if folder := os.environ.get("SNOW_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snow"
