from __future__ import annotations

import math
from typing import Any

import pytest

from snow.errors import SnowError
from snow.training import Recipe, Runtime
from snow.training.recipe import current_fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("optimizer", "adam"),
        ("lr", 0.0),
        ("lr", math.inf),
        ("lr", math.nan),
        ("weight_decay", -1e-4),
        ("momentum", 1.0),
        ("schedule", "linear"),
        ("warmup_epochs", -1.0),
        ("step_epochs", 0),
        ("label_smoothing", 1.0),
        ("clip_grad", -1.0),
        ("ema", 1.0),
        ("validation", 1.0),
        ("patience", 0),
        ("calibration", -1),
        ("precision", "64"),
        ("seed", -1),
        ("seed", 2**63),
        ("cache_views", 0),
        ("cache_dtype", "fp8"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(SnowError, match=field):
        Recipe(**{"validation": 0.1, field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", -1, "workers must be zero or more"),
        ("devices", 0, "devices must be at least 1"),
        ("accelerator", "abacus", "accelerator must be one of auto, cpu, cuda, cuda:1"),
        ("checkpoint_seconds", -1.0, "checkpoint_seconds must be zero or more"),
        ("cache", "much", "'much' is not a size"),
    ],
)
def test_a_runtime_outside_its_range_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        Runtime(**{field: value})


def test_patience_needs_a_validation_part() -> None:
    with pytest.raises(SnowError, match="validation"):
        Recipe(patience=3)
    assert Recipe(patience=3, validation=0.1).patience == 3


def test_dict_and_back() -> None:
    recipe = Recipe(lr=0.3, patience=2, validation=0.2)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(SnowError, match="speed"):
        Recipe.from_dict({"speed": 1})


def test_the_paper_divides_by_ten_every_thirty_epochs() -> None:
    recipe = Recipe.paper(epochs=70)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 1.0, 0.9, 1e-4)
    rates = [recipe.rate(step, batches=4) for step in (0, 119, 120, 239, 240, 279)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_rises_in_a_line_and_falls_to_zero() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=1, schedule="cosine")
    rates = [recipe.rate(step, batches=4) for step in range(40)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[22] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_a_short_run_warms_up_for_half_of_it_at_most() -> None:
    recipe = Recipe(epochs=1, warmup_epochs=5, schedule="constant")
    assert [recipe.rate(step, batches=6) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_workers_leave_a_core_to_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(6)), raising=False)
    assert [Runtime().loading_workers(processes) for processes in (1, 2, 6, 8)] == [5, 2, 0, 0]
    assert Runtime(workers=3).loading_workers(8) == 3


def test_what_0_1_0_recorded_is_read_and_compared() -> None:
    """It recorded workers and checkpoint_seconds with the recipe, and a cache froze the selection."""
    plain = {**Recipe(lr=0.3).to_dict(), "workers": 2, "checkpoint_seconds": 60.0}
    assert Recipe.from_dict(plain) == Recipe(lr=0.3)
    assert current_fields(plain) == Recipe(lr=0.3).resolved(cached=False).to_dict()
    cached = {**plain, "cache": "4GB", "cache_views": 2, "cache_dtype": "int8"}
    expected = Recipe(lr=0.3, cache_views=2, cache_dtype="int8").resolved(cached=True)
    assert Recipe.from_dict(cached) == expected
    assert current_fields(cached) == current_fields(expected.to_dict()) == expected.to_dict()
    assert current_fields(cached) != current_fields(plain)


def test_a_recipe_is_resolved_by_whether_features_are_cached() -> None:
    recipe = Recipe(epochs=3, cache_views=5)
    assert recipe.resolved(cached=False) == Recipe(epochs=3)
    cached = recipe.resolved(cached=True)
    assert (cached.freeze_selection, cached.cache_views, cached.cache_dtype) == (True, 5, "fp16")
    assert (cached.views, recipe.resolved(cached=False).views) == (3, None)
    for resolved in (cached, recipe.resolved(cached=False)):
        assert resolved.resolved(cached=resolved is cached) == resolved
    with pytest.raises(SnowError, match="a cache needs a frozen choice of channels"):
        Recipe(freeze_selection=False).resolved(cached=True)
