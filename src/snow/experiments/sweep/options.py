"""The options of a sweep, their values, and the configuration of one trial."""

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
OptionValues = Mapping[str, Value]
"""Values by option name: `keep`, `pooling.sigma2`, or a field of the recipe, such as `lr`."""

GROUP = "pooling"
"""Field of `SnowConfig` whose own fields are options, too."""


@dataclass(frozen=True)
class TrialConfig:
    """What one trial trains: the options of method snow, and the recipe."""

    config: SnowConfig = field(default_factory=SnowConfig)
    recipe: Recipe = field(default_factory=Recipe)

    def value(self, name: str) -> Value:
        """Look up an option by its full name."""
        return self._values()[name]

    def with_values(self, values: OptionValues) -> TrialConfig:
        """Copy with other values for some options, given by their full names.

        Raises:
            SnowError: a value is out of range.
        """
        recipe = {name: value for name, value in values.items() if name in recipe_fields()}
        config = asdict(self.config)
        if values.get("start", config["start"]) != config["start"]:  # these have defaults of their own with each start
            config |= dict.fromkeys(("keep", "final_keep", "readout", "rank"))
        for name, value in values.items() - recipe.items():
            group, _, inner = name.rpartition(".")
            (config[group] if group else config)[inner] = value
        return TrialConfig(SnowConfig.from_dict(config), replace(self.recipe, **recipe))

    @property
    def variant(self) -> Variant:
        """Method snow with a label that names all options that differ from their defaults."""
        defaults, values = TrialConfig()._values(), self._values()
        if values["final_keep"] is not None:  # names a head, which has defaults of its own
            head = SnowConfig(final_keep=values["final_keep"]).resolved(2)
            defaults |= {name: getattr(head, name) for name in ("readout", "rank", "start")}
        changed = [name for name, value in values.items() if name not in recipe_fields() and value != defaults[name]]
        return Variant(":".join([Snow.name, *(f"{name}={_text(values[name])}" for name in changed)]))

    def _values(self) -> dict[str, Any]:
        config = asdict(self.config)
        pooling = {f"{GROUP}.{name}": value for name, value in config.pop(GROUP).items()}
        return {**config, **pooling, **{name: getattr(self.recipe, name) for name in recipe_fields()}}


def recipe_fields() -> list[str]:
    """List the fields of the recipe that can be swept: all but the seed, which `Sweep.seeds` sets."""
    return [entry.name for entry in fields(Recipe) if entry.name != "seed"]


def full_name(name: str) -> str:
    """Complete the name of an option: `sigma2` -> `pooling.sigma2`.

    Raises:
        SnowError: there is no such option.
    """
    pooling = [entry.name for entry in fields(PoolingConfig)]
    known = [*(entry.name for entry in fields(SnowConfig) if entry.name != GROUP), *recipe_fields()]
    if name in pooling:
        return f"{GROUP}.{name}"
    if name in known or name.removeprefix(f"{GROUP}.") in pooling:
        return name
    raise SnowError(f"unknown option {name!r}: a sweep takes {', '.join([*known, *pooling])}")


def label(values: OptionValues) -> str:
    """Name some option values: `keep=0.25 width=0.5`, or `default` if there are none."""
    return " ".join(f"{name}={_text(value)}" for name, value in values.items()) or "default"


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


PAPER = ("keep=1/4,1/8,1/16", "width=1/4,1/8,1/16", "pooling.sigma2=1e-1,1e-3,1e-5,1e-7")
"""The paper's Table 4: K, the width of the delta, and the variance of the noise."""


@dataclass(frozen=True)
class Option:
    """An option and its values in the order of the table; the base value is among them."""

    name: str
    values: tuple[Value, ...]

    @classmethod
    def parse(cls, text: str, base: TrialConfig) -> Option:
        """Parse `NAME=VALUE,VALUE`; a number may be a fraction such as `1/8`.

        Raises:
            SnowError: an unknown option, an invalid value, or no value.
        """
        name, _, listed = text.partition("=")
        texts = [value.strip() for value in listed.split(",") if value.strip()]
        if not texts:
            raise SnowError(f"--over takes NAME=VALUE,VALUE, such as keep=1/4,1/8, not {text!r}")
        name = full_name(name.strip())
        centre = base.value(name)
        values = list(dict.fromkeys([_value(name, text, centre) for text in texts]))
        if centre not in values:
            values.append(centre)
            if is_number(centre) and all(is_number(value) for value in values):
                values.sort()  # ty: ignore[invalid-argument-type]
        for value in values:
            base.with_values({name: value})
        return cls(name, tuple(values))

    @property
    def is_numeric(self) -> bool:
        return all(is_number(value) for value in self.values)


def is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(name: str, text: str, like: Value) -> Value:
    """Parse `text` as the type of `like`."""
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
"""Trials per source pass, by default."""


@dataclass(frozen=True)
class Sweep:
    """What to sweep over, and on which data.

    Attributes:
        base: the configuration of which one option at a time is changed.
        options: the options to change, with their values.
        seeds: each setting is trained once per seed.
        held_out: fraction of the training images on which accuracy is measured. The test images are never used.
        together: most trials that share a source pass. Only trials whose recipes agree, apart from the learning rate,
            can share one.
        search: number of further trials, with the first seed, in which all options change at once within the range of
            their values. Each is suggested from the trials before it.
        runtime: of each training run.

    Raises:
        SnowError: the data has several tasks; no option, or one given twice; no seed; a number below its minimum.
    """

    source: Source
    dataset: Dataset
    base: TrialConfig
    options: tuple[Option, ...]
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    together: int = TOGETHER
    search: int = 0
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        if len(self.dataset.tasks) != 1:
            raise SnowError("a sweep trains one task: name one label column")
        names = [option.name for option in self.options]
        if not names or len(set(names)) < len(names):
            raise SnowError(
                f"a sweep takes at least one option, and each of them once, not {', '.join(names) or 'none'}"
            )
        if not self.seeds or self.together < 1 or self.search < 0:
            raise SnowError(
                "a sweep needs at least one seed, at least one trial per pass (together), and search of at least 0"
            )

    @property
    def centre(self) -> dict[str, Any]:
        """The swept options with their base values."""
        return {option.name: self.base.value(option.name) for option in self.options}

    def changed(self, setting: OptionValues) -> dict[str, Any]:
        """Reduce a setting to the values that differ from `base`."""
        return {name: value for name, value in setting.items() if value != self.base.value(name)}

    def settings(self) -> list[dict[str, Any]]:
        """List the settings to train: `centre`, then each option in turn with each of its other values."""
        changes = [{option.name: value} for option in self.options for value in option.values]
        return [self.centre, *({**self.centre, **change} for change in changes if self.changed(change))]
