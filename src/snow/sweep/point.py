"""One setting of everything that can be swept: the options of method snow, and the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from snow.compare.variant import Variant
from snow.errors import SnowError
from snow.methods import Snow, SnowConfig
from snow.subscribe import PoolingConfig
from snow.training.recipe import Recipe

Value = float | int | bool | str | None
Setting = Mapping[str, Value]
"""Values by the name of an option: `keep`, `pooling.sigma2`, or a field of the recipe, such as `lr`."""

GROUP = "pooling"
FIXED = ("seed", "workers", "checkpoint_seconds")
"""Fields of the recipe that are no options: seeds are counted apart, the others do not change what is learned."""


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
    """Those that can be swept."""
    return [entry.name for entry in fields(Recipe) if entry.name not in FIXED]


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
