"""The command line: `snow COMMAND`. Each command is a thin file over the public API."""

from snow.cli.app import main

__all__ = ["main"]
