"""The record of a task at the time it was added: digests of its files and tensors, and its logits on test patterns.

The file on disk is called `fingerprint.json`; the fingerprint of a source is something else, a hash of its weights and
preprocessing. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from snow.errors import DamagedError
from snow.hub.task_files import FILES, RECORD_FILE, SELECTION_FILE, digest_of, digest_of_content, files_of
from snow.store import read_json, require_content

KINDS = {"files": dict, "tensors": dict, "logits": list}
"""Content of the record: {FILE: digest}, {FILE: {TENSOR: digest}}, and one row of logits per test pattern."""

TOLERANCE = 1e-3
"""Allowed difference of logits, relative to the largest: machines and versions of torch round differently."""

OWN_DIGEST = "digest"
"""Key for the digest of the record's other keys. Records of version 0.1.0 have none."""


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of the task in `folder`; None if it has none.

    Raises:
        SnowError: the record is damaged.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    values = read_json(path)
    is_complete = all(isinstance(values.get(key), kind) for key, kind in KINDS.items())
    is_unchanged = values.get(OWN_DIGEST) == own_digest(values) if OWN_DIGEST in values else set(values) == set(KINDS)
    if not is_complete or not is_unchanged:
        raise DamagedError(f"{path} is damaged: it is not what was written when the task was added")
    return values


def write_values(folder: Path, values: Mapping[str, Any]) -> None:
    """Write a record with its own digest."""
    sealed = {**values, OWN_DIGEST: own_digest(values)}
    (folder / RECORD_FILE).write_text(json.dumps(sealed, indent=1) + "\n", "utf-8")


def own_digest(values: Mapping[str, Any]) -> str:
    """Hash the content of a record except for its own digest."""
    rest = {key: value for key, value in values.items() if key != OWN_DIGEST}
    content = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def recorded_files(folder: Path) -> dict[str, Path]:
    """Map the names of the files that a record covers to their paths: all files of the task but the record itself."""
    return {path.name: path for path in files_of(folder) if path.name != RECORD_FILE}


def require_unchanged(
    folder: Path, names: Collection[str] = FILES, content: Mapping[str, bytes | bytearray] | None = None
) -> None:
    """Compare files of a task with its record, if it has one.

    Files that the record does not name are not compared. The selection history may be removed: nothing that answers
    reads it.

    Args:
        names: the files to compare; by default all.
        content: of files that have been read already.

    Raises:
        SnowError: the record is damaged, or a file that it names is missing or has changed.
    """
    record = read_record(folder)
    if record is None:
        return
    present = recorded_files(folder)
    for name, recorded in record["files"].items():
        if name not in names or (name not in present and name == SELECTION_FILE):
            continue
        if name not in present:
            raise DamagedError(f"{folder / name} cannot be read: it is missing")
        digest = digest_of_content(content[name]) if content and name in content else digest_of(present[name])
        if digest != recorded:
            require_content(present[name])
            raise DamagedError(f"{folder / name} has changed since the task was added: snow hub verify says where")
