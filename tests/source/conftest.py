"""Tiny models of transformers, saved as folders and opened as sources: each is made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from source.tiny_transformers import MODELS, OWN_SIZES, save_model

if TYPE_CHECKING:
    from torch import nn

    from snow.source import Source


@pytest.fixture(scope="module")
def model_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def saved_model(model_place: Path) -> Callable[[str], tuple[Path, nn.Module]]:
    """`saved_model(name)`: the folder of a model, and the model itself."""
    return cache(lambda name: (model_place / name, save_model(name, model_place / name)))


@pytest.fixture(scope="module")
def opened_model(saved_model: Callable[[str], tuple[Path, nn.Module]]) -> Callable[[str], Source]:
    """`opened_model(name)`: the source that such a folder gives."""
    from snow.source import Source

    return cache(lambda name: Source.open(f"hf:{saved_model(name)[0]}", image_size=OWN_SIZES.get(name)))


@pytest.fixture(params=MODELS)
def model_name(request: pytest.FixtureRequest) -> str:
    """Each of the models in turn."""
    return request.param
