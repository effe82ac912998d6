"""Folders of plain files that change in one step, for any number of readers and writers, killed at any moment."""

from snow.store.lock import only_writer
from snow.store.names import check_name
from snow.store.store import Stamp, Store
from snow.store.whole import consistent, whole_file, whole_folder

__all__ = ["Stamp", "Store", "check_name", "consistent", "only_writer", "whole_file", "whole_folder"]
