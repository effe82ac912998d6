"""The folder of a hub: `source.json` and `tasks/NAME/`, made and read without loading the source."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError

from snow.errors import MismatchError, NotFoundError, file_error
from snow.hub.listing import store_of, unknown_task
from snow.hub.task_files import SELECTION_FILE
from snow.hub.task_record import require_unchanged
from snow.source import Source
from snow.source.description import read_source
from snow.source.source_file import write_source
from snow.subscribe import SelectionHistory


def prepare_folder(path: Path, source: Source) -> None:
    """Create the folder of a hub for `source`, or check that the hub at `path` has this very source.

    Raises:
        SnowError: `path` is a file, cannot be written, or is a hub of another source.
    """
    if not (path / "source.json").exists():
        is_new = not path.exists()
        try:
            (path / "tasks").mkdir(parents=True, exist_ok=True)
            with store_of(path).locked():
                if not (path / "source.json").exists():
                    write_source(path, source)
        except (OSError, SafetensorError) as error:
            if is_new and not (path / "source.json").exists():
                shutil.rmtree(path, ignore_errors=True)
            reason = getattr(error, "strerror", None) or error
            raise file_error(f"hub {path} cannot be made: {reason}", error) from error
    described = read_source(path)
    if described["fingerprint"] != source.fingerprint:
        raise MismatchError(
            f"hub {path} has another source: {described['architecture']} at "
            f"{described['preprocessing']['image_size']} px, fingerprint {described['fingerprint']}; this one "
            f"is {source.name} at {source.preprocessing.image_size} px, fingerprint {source.fingerprint}"
        )


def read_selection_history(path: Path, name: str) -> SelectionHistory:
    """Read which channels a task selected while it was trained, without opening the source.

    Raises:
        SnowError: there is no such hub or task, or the task has no record of its selection.
    """
    read_source(path)
    if not store_of(path).has(name):
        raise NotFoundError(unknown_task(path, name))

    def read(folder: Path) -> SelectionHistory:
        if not (folder / SELECTION_FILE).exists():
            raise NotFoundError(
                f"task {name} has no {SELECTION_FILE}: its method selects no channels, or it was not trained here"
            )
        require_unchanged(folder, [SELECTION_FILE])
        return SelectionHistory.load(folder / SELECTION_FILE)

    return store_of(path).read(name, read)
