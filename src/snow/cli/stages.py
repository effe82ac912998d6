"""What commands that train in several stages print while they do."""

from __future__ import annotations

from collections.abc import Sequence

from snow.cli.output import note
from snow.training.listeners import ProgressBar
from snow.training.listeners.listener import Listener


def announced(stage: str) -> Sequence[Listener]:
    """Names the stage, and shows how far it is."""
    note(f"{stage} …")
    return (ProgressBar(),)
