"""What a sweep goes over: options, the values that are tried, and one setting of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT
from snow.methods import Snow, SnowConfig
from snow.methods.variant import Variant
from snow.source import Source
from snow.subscribe import PoolingConfig
from snow.training import Recipe, Runtime

Value = float | int | bool | str | None
Setting = Mapping[str, Value]
"""Values by the name of an option: `keep`, `pooling.sigma2`, or a field of the recipe, such as `lr`."""

GROUP = "pooling"


@dataclass(frozen=True)
class Point:
    """What is trained.

    Attributes:
        config: of method snow.
        recipe: how.
    """

    config: SnowConfig = field(default_factory=SnowConfig)
    recipe: Recipe = field(default_factory=Recipe)

    def value(self, name: str) -> Value:
        """Of an option, by its full name."""
        return self._values()[name]

    def at(self, setting: Setting) -> Point:
        """The same but for some options, by their full names.

        Raises:
            SnowError: a value outside its range.
        """
        recipe = {name: value for name, value in setting.items() if name in recipe_fields()}
        config = asdict(self.config)
        for name, value in setting.items() - recipe.items():
            group, _, inner = name.rpartition(".")
            (config[group] if group else config)[inner] = value
        return Point(SnowConfig.from_dict(config), replace(self.recipe, **recipe))

    @property
    def variant(self) -> Variant:
        """Method snow with all options that are not its defaults."""
        theirs, values = Point()._values(), self._values()
        changed = [name for name, value in values.items() if name not in recipe_fields() and value != theirs[name]]
        return Variant(":".join([Snow.name, *(f"{name}={_text(values[name])}" for name in changed)]))

    def _values(self) -> dict[str, Any]:
        config = asdict(self.config)
        pooling = {f"{GROUP}.{name}": value for name, value in config.pop(GROUP).items()}
        return {**config, **pooling, **{name: getattr(self.recipe, name) for name in recipe_fields()}}


def recipe_fields() -> list[str]:
    """Those that can be swept: all but the seed, which is an argument of its own."""
    return [entry.name for entry in fields(Recipe) if entry.name != "seed"]


def full_name(name: str) -> str:
    """Of an option; those of channel pooling may be named alone.

    Raises:
        SnowError: there is no such option.
    """
    pooling = [entry.name for entry in fields(PoolingConfig)]
    known = [*(entry.name for entry in fields(SnowConfig) if entry.name != GROUP), *recipe_fields()]
    if name in pooling:
        return f"{GROUP}.{name}"
    if name in known or name.removeprefix(f"{GROUP}.") in pooling:
        return name
    raise SnowError(f"no option {name!r} to sweep over: there are {', '.join([*known, *pooling])}")


def label(setting: Setting) -> str:
    """`keep=0.25 width=0.5`; without a setting, what all others are compared with."""
    return " ".join(f"{name}={_text(value)}" for name, value in setting.items()) or "default"


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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


TOGETHER = 8


@dataclass(frozen=True)
class Sweep:
    """What to sweep over, and on what.

    Attributes:
        around: the point of which one option at a time is changed.
        options: what is changed.
        seeds: each setting is trained with each of them.
        held_out: fraction of the training pictures that accuracy is measured on; the test pictures are never seen.
        together: at most so many trials learn side by side on one pass of the source. Those whose recipes differ in
            more than the learning rate never do.
        search: afterwards, so many trials in which all options change at once within the range of their values, each
            chosen after those before; with the first seed.
        runtime: of each pass.
    """

    source: Source
    dataset: Dataset
    around: Point
    options: tuple[Option, ...]
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    together: int = TOGETHER
    search: int = 0
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        if len(self.dataset.tasks) != 1:
            raise SnowError("options are swept over on one task: name one label column")
        names = [option.name for option in self.options]
        if not names or len(set(names)) < len(names):
            raise SnowError(f"a sweep goes over one option or more, each named once, not {', '.join(names) or 'none'}")
        if not self.seeds or self.together < 1 or self.search < 0:
            raise SnowError("a sweep needs at least one seed, one trial on a pass, and no fewer than 0 to search")

    @property
    def centre(self) -> dict[str, Any]:
        """The values of the options at `around`."""
        return {option.name: self.around.value(option.name) for option in self.options}

    def changed(self, setting: Setting) -> dict[str, Any]:
        """What differs from `around` in a setting."""
        return {name: value for name, value in setting.items() if value != self.around.value(name)}

    def wanted(self) -> list[dict[str, Any]]:
        """`centre`, then each option in turn with each of its other values."""
        others = [{option.name: value} for option in self.options for value in option.values]
        return [self.centre, *({**self.centre, **other} for other in others if self.changed(other))]
