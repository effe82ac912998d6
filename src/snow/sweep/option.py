"""What a sweep goes over: an option and the values that are tried."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

from snow.errors import SnowError
from snow.sweep.point import Point, Value, full_name

PAPER = ("keep=1/4,1/8,1/16", "width=1/4,1/8,1/16", "pooling.sigma2=1e-1,1e-3,1e-5,1e-7")
"""Table 4: K, the size of the delta, and the variance of the noise."""


@dataclass(frozen=True)
class Option:
    """Values in the order in which they are shown; that of the point around which is swept is one of them."""

    name: str
    values: tuple[Value, ...]

    @classmethod
    def parse(cls, text: str, around: Point) -> Option:
        """From `NAME=VALUE,VALUE`; a number may be a fraction, as `1/8`.

        Raises:
            SnowError: no such option, a value that it cannot have, or none.
        """
        name, _, listed = text.partition("=")
        texts = [value.strip() for value in listed.split(",") if value.strip()]
        if not texts:
            raise SnowError(f"--over takes NAME=VALUE,VALUE, such as keep=1/4,1/8, not {text!r}")
        name = full_name(name.strip())
        centre = around.value(name)
        values = list(dict.fromkeys([_value(name, each, centre) for each in texts]))
        if centre not in values:
            values.append(centre)
            if is_number(centre) and all(is_number(value) for value in values):
                values.sort()  # ty: ignore[invalid-argument-type]
        for value in values:
            around.at({name: value})
        return cls(name, tuple(values))

    @property
    def is_numeric(self) -> bool:
        return all(is_number(value) for value in self.values)


def is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(name: str, text: str, like: Value) -> Value:
    """`text` as a value of the kind that `like` is."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, int):
            return int(text)
        if isinstance(like, float):
            return float(Fraction(text))
        return json.loads(text) if like is None else text
    except (ValueError, KeyError, ArithmeticError):
        kind = {bool: "true or false", int: "whole numbers", float: "numbers such as 0.5, 1e-3 or 1/8"}
        raise SnowError(f"{name} takes {kind.get(type(like), 'numbers or null')}, not {text!r}") from None
