"""Earlier versions of a task: what it was before it was replaced, in `versions/NAME/NUMBER/` of its hub.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snow.errors import DamagedError, MismatchError, NotFoundError, SnowError
from snow.hub.listing import figures, kind_name, store_of, unit_of, unknown_task
from snow.hub.task_files import CONFIG_FILE, METRICS_FILE, RECORD_FILE, copy_files, files_of, read_config
from snow.store import atomic_folder, check_name, read_json
from snow.store.files import remove_path

KEPT = 5
"""Earlier versions of a task that stay."""


def version_folders(hub: Path, name: str) -> dict[int, Path]:
    """Map the numbers of a task's earlier versions to their folders, the oldest first."""
    root = hub / "versions" / check_name(name)
    folders = {int(path.name): path for path in root.glob("[0-9]*") if path.name.isdigit()} if root.is_dir() else {}
    return dict(sorted(folders.items()))


@contextmanager
def keeping_version(hub: Path, name: str) -> Generator[None]:
    """Keep a version of a task that the block replaces. If the block fails, the version is not kept.

    Raises:
        SnowError: the copy cannot be written.
    """
    kept = _keep_version(hub, name)
    try:
        yield
    except BaseException:
        if kept is not None:
            remove_path(kept)
        raise
    for path in list(version_folders(hub, name).values())[:-KEPT]:
        remove_path(path)


def _keep_version(hub: Path, name: str) -> Path | None:
    """Copy a task to its earlier versions before it is replaced, unless the last of them is the same.

    The copy appears in one step: a process that is killed here leaves the task and its versions complete.

    Returns:
        The folder of the copy, if one was made.

    Raises:
        SnowError: the copy cannot be written.
    """
    folders = version_folders(hub, name)
    last = max(folders, default=0)
    target = hub / "versions" / name / f"{last + 1:04d}"

    def copy(folder: Path) -> bool:
        if folders and _same(folder, folders[last]):
            return False
        with atomic_folder(target) as new:
            copy_files(folder, new)
        return True

    try:
        return target if store_of(hub).read(name, copy) else None
    except (MismatchError, DamagedError):
        return None  # another process keeps a version right now, or there is nothing sound to keep


def _same(folder: Path, other: Path) -> bool:
    """Compare two versions by their records, which hold digests of all files."""
    records = [path / RECORD_FILE for path in (folder, other)]
    return all(path.exists() for path in records) and records[0].read_bytes() == records[1].read_bytes()


def find_version(hub: Path, name: str, number: int | None = None) -> Path:
    """Return the folder of an earlier version, by default of the last one.

    Raises:
        NotFoundError: there is no such task, or no such version.
    """
    if not store_of(hub).has(name):
        raise NotFoundError(unknown_task(hub, name))
    folders = version_folders(hub, name)
    number = max(folders, default=0) if number is None else number
    if number not in folders:
        if not folders:
            raise NotFoundError(f"task {name} of hub {hub} has no earlier version")
        raise NotFoundError(
            f"task {name} of hub {hub} has no version {number}: kept are {', '.join(map(str, folders))}"
        )
    return folders[number]


def remove_versions(hub: Path, name: str) -> None:
    """Remove all earlier versions of a task."""
    remove_path(hub / "versions" / check_name(name))


def history_of(hub: Path, name: str) -> list[dict[str, Any]]:
    """Describe a task and its earlier versions, the present one first: JSON values.

    Raises:
        NotFoundError: there is no such task.
    """
    if not store_of(hub).has(name):
        raise NotFoundError(unknown_task(hub, name))
    entries = [_described(None, store_of(hub).read(name, lambda folder: _facts(folder)))]
    for number, folder in reversed(version_folders(hub, name).items()):
        entries.append(_described(number, _attempt(lambda folder=folder: _facts(folder))))
    return entries


def _facts(folder: Path) -> dict[str, Any]:
    config, metrics = read_config(folder), read_json(folder / METRICS_FILE)
    changes = config["training"].get("changes")
    written = datetime.fromtimestamp((folder / CONFIG_FILE).stat().st_mtime, UTC)
    return {
        "written": written.strftime("%Y-%m-%d %H:%M"),
        "method": config["method"],
        "kind": kind_name(config),
        "classes": len(config["classes"]),
        "figures": figures(metrics),
        **({"unit": unit} if (unit := unit_of(config)) else {}),
        "change": str(changes[-1]) if isinstance(changes, list) and changes else "trained",
        "bytes": sum(path.stat().st_size for path in files_of(folder)),
    }


def _described(number: int | None, facts: dict[str, Any] | str) -> dict[str, Any]:
    return {"version": number, **(facts if isinstance(facts, dict) else {"error": facts})}


def _attempt(read: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
    try:
        return read()
    except SnowError as error:
        return str(error)
