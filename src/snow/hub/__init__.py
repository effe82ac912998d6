"""Hubs: a source and any number of tasks in a folder, and how tasks are kept, checked, shared and exported."""

from snow.hub.artifact import Artifact
from snow.hub.hub import Hub

__all__ = ["Artifact", "Hub"]
