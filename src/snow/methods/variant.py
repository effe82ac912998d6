"""A method with options, as one label: `snow`, or `snow:keep=0.25:pooling.slots=index`."""

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
    """Options as JSON values; a dot reaches into a group of options.

    Raises:
        SnowError: no such method, an option without a value.
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
            place = config
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = _value(value)
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "config", config)

    @classmethod
    def parse(cls, labels: str) -> tuple[Self, ...]:
        """Several with commas between; `all` is every method that is installed."""
        names = [name.strip() for name in labels.split(",") if name.strip()]
        return tuple(cls(name) for name in (installed_methods() if names == ["all"] else names))

    def build(self, source: Source, num_classes: int) -> Method:
        return METHODS[self.method].build(source, num_classes, self.config)

    def start(self, source: Source, num_classes: int, seed: int, rate: float) -> Method:
        """As `build`, with weights that depend on nothing but the seed, and so many times its learning rate."""
        with fork_rng():
            seed_all(seed)
            method = self.build(source, num_classes)
        method.lr_scale *= rate
        return method


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
