"""The app of `snow hub`, and the paths that its commands take: a hub, a task in a hub, or a task in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from snow.cli.app import command
from snow.errors import SnowError
from snow.hub.listing import store_of
from snow.source.description import read_source
from snow.store import read_consistently

DIFFERENT = 1
"""Exit code of `snow hub verify` and `snow hub diff` if there is a difference."""

app = command("hub", "snow hub list my-hub")


T = TypeVar("T")


@dataclass(frozen=True)
class HubPath:
    """A hub, a task in a hub, or a task in a folder of its own.

    Attributes:
        hub: None for a task in a folder of its own.
        task: name in `hub`; None for the hub itself.
        path: of the hub, or of the folder of the task.
    """

    hub: Path | None
    task: str | None
    path: Path

    def read(self, reader: Callable[[Path], T]) -> T:
        """Call `reader` on the folder of the task, on a consistent version of its files."""
        if self.hub and self.task:
            return store_of(self.hub).read(self.task, reader)
        return read_consistently(lambda: self.path, reader)


def resolve(path: Path) -> HubPath:
    """Find out what a path is.

    Raises:
        SnowError: it is neither a hub nor a task.
    """
    if (path / "source.json").exists():
        return HubPath(path, None, path)
    hub = path.parent.parent if path.parent.name == "tasks" else path.parent
    if (hub / "source.json").exists():
        require(hub, path.name)
        return HubPath(hub, path.name, hub / "tasks" / path.name)
    if (path / "config.json").exists():
        return HubPath(None, None, path)
    raise SnowError(f"{path} is neither a hub nor a task: it has no source.json and no config.json")


def require(hub: Path, *names: str) -> None:
    """Check that a hub exists and has these tasks.

    Raises:
        SnowError: there is no hub, or it lacks a task.
    """
    read_source(hub)
    for name in names:
        if not store_of(hub).has(name):
            available = ", ".join(store_of(hub).names()) or "none yet"
            raise SnowError(f"hub {hub} has no task {name!r}: it has {available}")
