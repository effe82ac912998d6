"""Files and folders that change in one step, for any number of readers and writers, killed at any moment."""

from snow.store.files import atomic_file, atomic_folder, read_consistently, read_json, write_json
from snow.store.lock import exclusive, only_writer
from snow.store.store import Stamp, Store, check_name

__all__ = [
    "Stamp",
    "Store",
    "exclusive",
    "check_name",
    "read_consistently",
    "only_writer",
    "read_json",
    "atomic_file",
    "atomic_folder",
    "write_json",
]
