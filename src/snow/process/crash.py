"""Unexpected errors: one line for the user, and a file with the traceback for whoever mends it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

DEBUG = "SNOW_DEBUG"
"""Environment variable; if it is set, unexpected errors are raised with their traceback."""


_TRACEBACK = "Traceback (most recent call last)"


def report_crash(error: BaseException, version: str) -> str:
    """Write a traceback to a new file, and describe the error in one line that names the file.

    Args:
        version: of this package.
    """
    message = str(error)
    if _TRACEBACK in message:  # of another process; its last line says what happened
        message = message.rstrip().rpartition("\n")[2]
    reason = " ".join(f"{type(error).__name__}: {message}".split())
    path = _write("".join(traceback.format_exception(error)), version)
    details = "its traceback cannot be written" if path is None else f"details in {path}"
    return f"unexpected {reason[:300].rstrip(':')} ({details}; {DEBUG}=1 shows them here)"


def log_folder() -> Path:
    """Return the folder for logs of this user, as the system has it."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "snow" / "Logs"
    if sys.platform == "darwin":
        return home / "Library" / "Logs" / "snow"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "snow"


def _write(text: str, version: str) -> Path | None:
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    head = f"snow {version}, Python {platform.python_version()}, {platform.platform()}\n{' '.join(_arguments())}\n\n"
    for folder in (log_folder, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError, RuntimeError, ValueError):  # a user without a home, a full disk
            path = folder() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{head}{text}\n")
            return path
    return None


def _arguments() -> list[str]:
    """List the arguments of this process, without a secret token."""
    arguments = list(sys.argv)
    for place, argument in enumerate(arguments):
        if argument.startswith("--token="):
            arguments[place] = "--token=…"
        elif place and arguments[place - 1] == "--token":
            arguments[place] = "…"
    return arguments
