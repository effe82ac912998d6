"""Errors that a user can fix: bad input, a missing file, a task that does not fit its source."""

from __future__ import annotations

import errno
import unicodedata
from collections.abc import Sequence
from typing import Any

DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them."""


def printable(text: str) -> str:
    """Escape what a terminal would obey: control characters, line breaks, changes of direction, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in DIRECTIONS
        else letter
        for letter in text
    )


def shortened(names: Sequence[str], count: int = 5) -> str:
    """Quote the first names of a list, and say how many more there are."""
    quoted = ", ".join(repr(name) for name in names[:count])
    return f"{quoted} and {len(names) - count} more" if len(names) > count else quoted


class SnowError(ValueError):
    """One line: what is wrong, where, and what to do about it. The command line prints it and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class NotFoundError(SnowError):
    """A hub, task, picture or file is missing."""


class MismatchError(SnowError):
    """Two things do not belong together: a task and its source, a checkpoint and a run, a name and its owner."""


class DamagedError(SnowError):
    """A file is not what it was when it was saved."""


class NoSpaceError(SnowError):
    """Memory or disk is too small."""


def file_error(message: str, cause: Exception) -> SnowError:
    """Make the error of the kind that an operation on a file failed with."""
    if isinstance(cause, FileNotFoundError):
        return NotFoundError(message)
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpaceError(message)
    return SnowError(message)


class DivergedError(SnowError):
    """The loss or the weights of a learner are not finite.

    Attributes:
        learner: its name.
    """

    def __init__(self, message: str, learner: str) -> None:
        super().__init__(message)
        self.learner = learner

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.learner)
