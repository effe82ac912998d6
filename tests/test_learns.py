"""SNOW learns: a change that breaks learning fails here, whatever else is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from snow.data import open_dataset
from snow.data.samples import write_samples
from snow.methods import METHODS
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.fit import fit


@pytest.mark.slow
def test_the_default_recipe_beats_chance_and_the_linear_probe_on_real_digits(tmp_path: Path) -> None:
    """500 digits of ten classes for three epochs, with the pretrained source that comes with the installation."""
    source = Source.embedded(48)
    dataset = open_dataset(write_samples("digits", tmp_path), task="digits")
    learners = {name: METHODS[name].build(source, len(dataset.tasks[0].classes)) for name in ("snow", "fo")}
    recipe = Recipe(epochs=3, augment="none", seed=0)
    metrics = fit(source, learners, dataset, recipe, runtime=Runtime(workers=0)).metrics
    assert metrics["snow"].top1 > 0.7
    assert metrics["snow"].top1 > metrics["fo"].top1 + 0.02
