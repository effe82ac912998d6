"""What can be swept over, and how it is written."""

from __future__ import annotations

import pytest

from snow.errors import SnowError
from snow.experiments.sweep import PAPER, Option, TrialConfig
from snow.methods import SnowConfig
from snow.subscribe import PoolingConfig
from snow.training import Recipe

AROUND = TrialConfig(SnowConfig().resolved(2))


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("keep=1/4,1/8,1/16", "keep", (0.25, 0.125, 0.0625)),
        ("keep=0.25", "keep", (0.125, 0.25)),
        ("sigma2=1e-1, 1e-3", "pooling.sigma2", (0.1, 0.001)),
        ("pooling.slots=index", "pooling.slots", ("index", "channel")),
        ("rescale=false,true,false", "pooling.rescale", (False, True)),
        ("batch_size=16", "batch_size", (16, 32)),
        ("lr=1e-2,1e-3", "lr", (0.01, 0.001)),
        ("augment=none,mild", "augment", ("none", "mild")),
        ("patience=3,null", "patience", (3, None)),
    ],
)
def test_an_option_has_the_values_named_and_the_one_around(text: str, name: str, values: tuple[object, ...]) -> None:
    base = TrialConfig(SnowConfig(keep=0.125, pooling=PoolingConfig(sigma2=1e-3)), Recipe(validation=0.1))
    option = Option.parse(text, base)
    assert (option.name, option.values) == (name, values)
    assert [type(value) for value in option.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kep=1", "unknown option 'kep': a sweep takes width, keep"),
        ("seed=1", "unknown option 'seed'"),
        ("pooling=1", "unknown option 'pooling'"),
        ("pooling.keep=1", "unknown option"),
        ("keep", "takes NAME=VALUE"),
        ("keep=,", "takes NAME=VALUE"),
        ("keep=half", "keep takes numbers such as 0.5, 1e-3 or 1/8, not 'half'"),
        ("keep=1/0", "not '1/0'"),
        ("lr=1e999", "lr must be|lr takes"),
        ("keep=2", r"ratio in \(0, 1\], not 2"),
        ("batch_size=1.5", "batch_size takes whole numbers"),
        ("rescale=maybe", "true or false"),
        ("slots=none", "slots is one of"),
        ("optimizer=magic", "optimizer must be one of"),
        ("patience=x", "numbers or null"),
    ],
)
def test_what_cannot_be_swept_over_is_one_line(text: str, told: str) -> None:
    with pytest.raises(SnowError, match=told) as caught:
        Option.parse(text, AROUND)
    assert "\n" not in str(caught.value)


def test_the_papers_options_can_be_swept_over() -> None:
    options = [Option.parse(text, AROUND) for text in PAPER]
    assert [option.name for option in options] == ["keep", "width", "pooling.sigma2"]
    assert {0.25, 0.125, 0.0625} <= set(options[0].values) & set(options[1].values)


def test_a_point_goes_elsewhere_and_stays() -> None:
    point = TrialConfig(SnowConfig(width=0.5), Recipe(epochs=3))
    other = point.with_values({"keep": 0.25, "pooling.sigma2": 0.1, "lr": 0.01})
    assert (other.config.keep, other.config.pooling.sigma2, other.recipe.lr) == (0.25, 0.1, 0.01)
    assert (other.config.width, other.recipe.epochs) == (0.5, 3)
    assert point == TrialConfig(SnowConfig(width=0.5), Recipe(epochs=3))


def test_a_point_is_a_variant_that_can_be_compared() -> None:
    assert TrialConfig().variant.label == "snow"
    point = TrialConfig().with_values({"keep": 0.25, "pooling.slots": "index", "pooling.rescale": False, "lr": 1.0})
    variant = point.variant
    assert variant.label == "snow:keep=0.25:pooling.slots=index:pooling.rescale=false"
    assert SnowConfig.from_dict(variant.config) == point.config


@pytest.mark.parametrize(("before", "after"), [("zero", "evidence"), ("evidence", "zero")])
def test_another_start_comes_with_its_own_defaults(before: str, after: str) -> None:
    point = TrialConfig(SnowConfig(start=before, width=0.5).resolved(2))
    other = point.with_values({"start": after, "keep": 0.25}).config
    assert other.resolved(2) == SnowConfig(start=after, width=0.5, keep=0.25).resolved(2)
    assert point.with_values({"start": before}) == point
