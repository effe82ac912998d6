"""A run that cannot go on."""

from __future__ import annotations

from typing import Any

from snow.errors import SnowError


class DivergedError(SnowError):
    """The loss or the weights of one learner are not finite; `learner` is its name."""

    def __init__(self, message: str, learner: str) -> None:
        super().__init__(message)
        self.learner = learner

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.learner)
