"""A Ray cluster for one command, and the processes that it is made of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def parents() -> dict[int, int]:
    """Of all processes, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    return found


def below(root: int) -> list[int]:
    """The processes that `root` has started, and those that these have."""
    above = parents()
    found = [root]
    for one in found:
        found.extend(child for child, parent in above.items() if parent == one)
    return found[1:]


def titled(root: int, title: bytes) -> list[int]:
    """Those of them that Ray calls so."""

    def is_so(process: int) -> bool:
        try:
            return Path(f"/proc/{process}/cmdline").read_bytes().startswith(title)
        except OSError:
            return False

    return [process for process in below(root) if is_so(process)]


@contextmanager
def own_cluster() -> Generator[dict[str, str]]:
    """The environment of a command that starts one."""
    folder = tempfile.mkdtemp(prefix="snow-ray-", dir="/tmp")  # names of sockets must be short
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": folder}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)
