"""What a user names in text: a kind of label, weights of classes, and what thresholds are picked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from snow.errors import SnowError

_BLANK_OPTIONS = frozenset({"multi"})


class KindSpec(NamedTuple):
    """A kind as a user names it: `multi`, `multi:;` with a separator, `ordered:good<fair<bad` with an order."""

    name: str
    option: str = ""

    @classmethod
    def parse(cls, text: str) -> KindSpec:
        """Split at the first colon. A blank alone behind it can be a separator.

        Raises:
            SnowError: nothing is behind the colon.
        """
        name, colon, option = text.partition(":")
        if colon and not option.strip() and not (option and name.strip() in _BLANK_OPTIONS):
            raise SnowError(
                f"kind {text!r} has nothing behind the colon: leave the colon out, or say what belongs there"
            )
        return cls(name.strip(), option.strip() or option)


class ThresholdTarget(NamedTuple):
    """What the threshold of a tag is picked for on held-out pictures.

    Attributes:
        name: f1, precision or recall.
        least: precision or recall that is asked for.
    """

    name: str = "f1"
    least: float = 0.0

    @classmethod
    def parse(cls, text: str) -> ThresholdTarget:
        """Read `f1`, `precision=0.9` or `recall=0.9`.

        Raises:
            SnowError: it is none of these.
        """
        name, _, value = text.partition("=")
        try:
            least = float(value or 0)
        except ValueError:
            least = -1.0
        if text != "f1" and not (name in ("precision", "recall") and 0 < least <= 1):
            raise SnowError(f"thresholds must be f1, or precision=P or recall=R with a share such as 0.9, not {text!r}")
        return cls(name, least)


def named_weights(choice: str, names: Sequence[str] | None = None) -> dict[str, float]:
    """Read `NAME=WEIGHT,…`.

    Args:
        names: the others are left out; None: all count.

    Raises:
        SnowError: a weight that is no positive number.
    """
    weights: dict[str, float] = {}
    for part in choice.split(","):
        name, _, value = part.rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = 0.0
        if not name or not 0 < weight < float("inf"):
            raise SnowError(f"class weights are `balanced` or NAME=WEIGHT,… with weights above zero, not {part!r}")
        weights[name.strip()] = weight
    return {name: weight for name, weight in weights.items() if names is None or name in names}
