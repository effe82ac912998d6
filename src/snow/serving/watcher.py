"""Sees what other processes do to the folder of a hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from snow.errors import SnowError
from snow.hub import store_of
from snow.store import Stamp

log = logging.getLogger("snow.serving")


def stamps(hub: Path) -> dict[str, Stamp]:
    """Of all tasks; two are equal if nothing has changed between them."""
    store = store_of(hub)
    found = {}
    for name in store.names():
        try:
            found[name] = store.stamp(name)
        except SnowError:  # a folder whose name no task can have
            found[name] = ()
    return found


async def watch(hub: Path, seconds: float, changed: Callable[[], Awaitable[object]]) -> None:
    """Calls `changed` after each change, for as long as it is let. It looks, and reads no file."""
    before: dict[str, Stamp] | None = None
    while True:
        try:
            now = await asyncio.to_thread(stamps, hub)
            if now != before:
                await changed()
            before = now
        except OSError as error:
            log.warning("hub %s cannot be looked at: %s", hub, error)
        await asyncio.sleep(seconds)
