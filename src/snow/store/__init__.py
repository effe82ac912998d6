"""Files and folders that change in one step, for many readers and writers, any of which may be killed at any moment."""

from snow.store.files import atomic_file, atomic_folder, read_consistently, read_json, require_content, write_json
from snow.store.lock import exclusive, write_lock
from snow.store.store import Stamp, Store, check_name

__all__ = [
    "Stamp",
    "Store",
    "atomic_file",
    "atomic_folder",
    "check_name",
    "exclusive",
    "read_consistently",
    "read_json",
    "require_content",
    "write_json",
    "write_lock",
]
