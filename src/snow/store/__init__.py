"""Files and folders that change in one step, for any number of readers and writers, killed at any moment."""

from snow.store.files import consistent, read_json, whole_file, whole_folder, write_json
from snow.store.lock import exclusive, only_writer
from snow.store.store import Stamp, Store, check_name

__all__ = [
    "Stamp",
    "Store",
    "exclusive",
    "check_name",
    "consistent",
    "only_writer",
    "read_json",
    "whole_file",
    "whole_folder",
    "write_json",
]
