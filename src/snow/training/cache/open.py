"""The cache of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snow.data.task import Dataset
from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import Source
from snow.training.cache.cache import FeatureCache
from snow.training.checkpoint import data_fingerprint
from snow.training.feed import Feed
from snow.training.launch import arithmetic
from snow.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def is_cached(recipe: Recipe, methods: Iterable[Method]) -> bool:
    """Whether a run keeps features: that is wished, and there is one that looks at any. Its methods are settled."""
    return recipe.cache is not None and any(method.uses_source for method in methods)


def open_cache(
    source: Source,
    fingerprint: str,
    methods: Sequence[Method],
    dataset: Dataset,
    feed: Feed,
    recipe: Recipe,
    fabric: Fabric,
    folder: Path | None,
) -> FeatureCache:
    """For every view of a training picture, and for what is held out to measure epochs.

    Args:
        source: what makes the features.
        fingerprint: of the source as it is saved.
        methods: settled.
        folder: None: in memory, which is for one process.

    Raises:
        SnowError: as `FeatureCache`.
    """
    if folder is None and fabric.world_size > 1:
        raise SnowError("a cache in memory cannot be shared by several processes: name a folder for it")
    identity = {
        "source": fingerprint,
        "data": data_fingerprint(dataset),
        "augment": recipe.augment,
        "views": recipe.views,
        "validation": recipe.validation,
        "seed": recipe.seed,
        "precision": arithmetic(recipe.precision, fabric),
    }
    assert recipe.cache is not None
    return FeatureCache(source, methods, fabric, feed.views, recipe.cache_dtype, recipe.cache, folder, identity)
