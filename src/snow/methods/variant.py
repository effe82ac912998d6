"""A method with options, written as one label: `snow`, or `snow:keep=0.25:pooling.slots=index`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Self

from snow.errors import SnowError
from snow.methods import METHODS, installed_methods
from snow.methods.method import Method
from snow.process.randomness import fork_rng, seed_all
from snow.source import Source


@dataclass(frozen=True)
class Variant:
    """A method and its options, parsed from a label.

    Attributes:
        label: `METHOD:OPTION=VALUE:...`; values are JSON or plain text, and a dot reaches into a group of options.
        method: name of the method.
        config: its options.

    Raises:
        SnowError: no such method, or an option without a value.
    """

    label: str
    method: str = field(init=False)
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        method, *options = self.label.split(":")
        if method not in METHODS:
            raise SnowError(f"no method {method!r}: there are {', '.join(METHODS)}")
        config: dict[str, Any] = {}
        for option in options:
            path, equals, value = option.partition("=")
            if not path or not equals:
                raise SnowError(f"{self.label!r}: {option!r} is not OPTION=VALUE")
            *groups, name = path.split(".")
            values = config
            for group in groups:
                values = values.setdefault(group, {})
            values[name] = _parse_value(value)
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "config", config)

    @classmethod
    def parse(cls, labels: str) -> tuple[Self, ...]:
        """Parse labels separated by commas; `all` is every installed method."""
        names = [name.strip() for name in labels.split(",") if name.strip()]
        return tuple(cls(name) for name in (installed_methods() if names == ["all"] else names))

    def build(self, source: Source, num_classes: int) -> Method:
        """Make the method for a source; see `Method.build`."""
        return METHODS[self.method].build(source, num_classes, self.config)

    def start(self, source: Source, num_classes: int, seed: int, rate: float) -> Method:
        """Make the method with initial weights that depend on `seed` only, and its learning rate times `rate`."""
        with fork_rng():
            seed_all(seed)
            method = self.build(source, num_classes)
        method.lr_scale *= rate
        return method


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
