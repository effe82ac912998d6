"""What the source makes of the training pictures, kept: the source is run once for each view of a picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snow.data import Dataset
from snow.errors import SnowError
from snow.inference.features import FeatureBatch, observe_channels, only
from snow.methods import Method
from snow.source import FINAL, Features, Source
from snow.training.cache.layout import Layout
from snow.training.cache.row_store import RowStore
from snow.training.checkpoint import data_digest
from snow.training.launch import arithmetic
from snow.training.loader import DeviceLoader
from snow.training.recipe import Recipe, parse_size, shown_size
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


FORMAT = 1
HEADER = "cache.json"


class FeatureCache:
    """Keeps features of the channels that some settled methods look at, and the pictures if one of them does.

    Args:
        methods: whose choice is settled.
        count: how many rows there are to be.
        stored: type of the maps, see `Layout.of`.
        bound: largest size, as `parse_size` reads it.
        folder: where they are kept; None: in memory.
        identity: what else must be the same for what is in the folder to be of use, as JSON values.

    Raises:
        SnowError: more than the bound, no room, or a folder with the features of another run.
    """

    def __init__(
        self,
        source: Source,
        methods: Sequence[Method],
        fabric: Fabric,
        count: int,
        stored: str,
        bound: str,
        folder: Path | None,
        identity: Mapping[str, Any],
    ) -> None:
        self._source, self._methods, self._fabric = source, methods, fabric
        self._union = _union([method.sample_channels() for method in methods if method.uses_source])
        self._places = {method: _places(method.sample_channels(), self._union) for method in methods}
        self._with_pictures = any(method.uses_pictures for method in methods)
        size = source.preprocessing.image_size
        blank = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=fabric.device)
        self._layout = Layout.of(self._picture(blank), self._observe(blank), stored)
        self._require_bound(count, parse_size(bound))
        if folder is not None:
            self._claim(folder, {**identity, "channels": _digest(self._union), "row": self._layout.to_dict()})
        self._shelf = RowStore(folder, count, self._layout.size, fabric.global_rank)
        self.save, self.refresh = self._shelf.save, self._shelf.refresh
        place = "in memory" if folder is None else f"in {folder}"
        self.note = f"features of {count} views of pictures are kept {place}: {shown_size(self._shelf.bytes)}"

    @property
    def row_bytes(self) -> int:
        """Of a view of a picture."""
        return self._layout.size

    def remembered(self, loading: DeviceLoader, row: Callable[[Any], int]) -> Iterable[FeatureBatch]:
        """The batches of `loading`; where all that are left in it are kept, no picture is loaded and no pass made.

        Args:
            row: from a key of the pictures to where its features belong.
        """
        return _Remembered(self, loading, row)

    def has(self, rows: Tensor) -> bool:
        return self._shelf.has(rows)

    def put(self, rows: Tensor, images: Tensor, labels: Tensor) -> FeatureBatch:
        """Makes the pass for all methods and keeps what it gave."""
        features = self._observe(images)
        self._shelf.write(rows, self._layout.pack(self._picture(images), features))
        return FeatureBatch(labels, partial(self._shown, features))

    def get(self, rows: Tensor, labels: Tensor) -> FeatureBatch:
        device = self._fabric.device
        content = self._shelf.read(rows)
        if device.type == "cuda":
            content, labels = content.pin_memory(), labels.pin_memory()
        content, labels = content.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        return FeatureBatch(labels, partial(self._shown, self._layout.unpack(content, self._source.preprocessing)))

    def _shown(self, features: Features, methods: Sequence[Method]) -> list[Features]:
        return [only(features, self._places[method]) for method in methods]

    def _observe(self, images: Tensor) -> Features:
        """Of the channels that are kept."""
        with self._fabric.autocast():
            [features] = observe_channels(self._source, self._methods, images, [self._union])
        return features

    def _picture(self, images: Tensor) -> Tensor | None:
        return images if self._with_pictures else None

    def _require_bound(self, count: int, bound: int) -> None:
        each = self._layout.size
        if count * each > bound:
            raise SnowError(
                f"the features of {count} views of pictures take {shown_size(count * each)}, {shown_size(each)} each, "
                f"more than the {shown_size(bound)} of the cache: use fewer views, smaller pictures or int8"
            )

    def _claim(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Makes sure that what is in the folder, if anything, is of a run like this one."""
        path, error = folder / HEADER, None
        identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                found = json.loads(path.read_text("utf-8"))
                differing = [name for name, value in identity.items() if found.get(name) != value]
                if differing:
                    error = f"{folder} holds features of another run ({', '.join(differing)} differ)"
            elif self._fabric.is_global_zero:
                draft = path.with_suffix(".part")
                draft.write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
                draft.replace(path)  # the other processes of the run may be reading
        except (OSError, ValueError, AttributeError) as raised:
            error = f"{path}: {getattr(raised, 'strerror', None) or raised}"
        if error is not None:
            raise SnowError(f"{error}: remove it or name another folder")


class _Remembered:
    def __init__(self, cache: FeatureCache, loading: DeviceLoader, row: Callable[[Any], int]) -> None:
        self._cache, self._loading, self._row = cache, loading, row

    def __iter__(self) -> Iterator[FeatureBatch]:
        batches = list(self._loading.batches)
        rows = [torch.tensor([self._row(key) for key in keys]) for keys in batches]
        self._cache.refresh()
        if batches and self._cache.has(torch.cat(rows)):
            labels = self._loading.pictures.labels
            for keys, places in zip(batches, rows, strict=True):
                indices = [key[0] if isinstance(key, tuple) else key for key in keys]
                yield self._cache.get(places, labels[indices])
            return
        for places, (images, labels) in zip(rows, self._loading, strict=True):
            yield self._cache.put(places, images, labels)


def _union(stop_or_save: Sequence[Mapping[str, Tensor | None]]) -> dict[str, Tensor | None]:
    """By name: the channels that any of them looks at; None: all."""
    found: dict[str, Tensor | None] = {}
    for name in sorted({name for wish in stop_or_save for name in wish}):
        channels = [wish[name] for wish in stop_or_save if name in wish]
        picked = [one for one in channels if one is not None]
        found[name] = torch.cat(picked).unique() if len(picked) == len(channels) else None
    return found


def _places(wish: Mapping[str, Tensor | None], union: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Where a method's channels are among those that are kept; None: it takes what is kept as it is."""
    found: dict[str, Tensor | None] = dict.fromkeys((*wish, FINAL))
    for name, channels in wish.items():
        kept = union.get(name)
        if channels is not None and kept is not None and len(channels) != len(kept):
            found[name] = torch.searchsorted(kept, channels)
    return found


def _digest(chosen: Mapping[str, Tensor | None]) -> str:
    listed = {name: None if index is None else index.tolist() for name, index in chosen.items()}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def is_cached(recipe: Recipe, methods: Iterable[Method]) -> bool:
    """Whether a run keeps features: that is wished, and there is one that looks at any. Its methods are settled."""
    return recipe.cache is not None and any(method.uses_source for method in methods)


def open_cache(
    source: Source,
    fingerprint: str,
    methods: Sequence[Method],
    dataset: Dataset,
    feed: TrainingData,
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
        "data": data_digest(dataset),
        "augment": recipe.augment,
        "views": recipe.views,
        "validation": recipe.validation,
        "seed": recipe.seed,
        "precision": arithmetic(recipe.precision, fabric),
    }
    assert recipe.cache is not None
    return FeatureCache(source, methods, fabric, feed.views, recipe.cache_dtype, recipe.cache, folder, identity)
