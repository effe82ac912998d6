"""Keep the features of the training pictures, so that the source runs only once for each view of a picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snow.errors import MismatchError, NoSpaceError, SnowError
from snow.inference.features import FeatureBatch, moments_read, observe_channels, only
from snow.methods import Method
from snow.source import FINAL, Features, Source
from snow.training.cache_layout import Layout
from snow.training.checkpoint import data_digest
from snow.training.job import TrainingJob
from snow.training.launch import arithmetic
from snow.training.loader import DeviceLoader
from snow.training.row_store import RowStore
from snow.training.runtime import format_size, parse_size
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


FORMAT = 1
HEADER = "cache.json"

Channels = Mapping[str, Tensor | None]
"""Indices (K,) of channels by the name of a map; None: all channels."""


@dataclass(frozen=True)
class CacheSettings:
    """How much is kept, and where.

    Attributes:
        rows: number of views of pictures.
        dtype: type of the maps, see `Layout.of`.
        limit: largest size, as `parse_size` reads it.
        folder: where the features are kept; None: in memory.
        identity: JSON values that must be the same for the features in the folder to be used.
    """

    rows: int
    dtype: str
    limit: str
    folder: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)


class FeatureCache:
    """Keeps the features that methods with a frozen selection read, and the pictures if one of them needs these.

    Args:
        source: makes the features.
        methods: their choice of channels is frozen.
        fabric: device and precision of the source.
        settings: size and place.

    Raises:
        NoSpaceError: the features take more than the limit, or than there is room for.
        MismatchError: the folder holds the features of another run.
    """

    def __init__(self, source: Source, methods: Sequence[Method], fabric: Fabric, settings: CacheSettings) -> None:
        self._source, self._methods, self._fabric = source, methods, fabric
        self._union = _union([method.sample_channels() for method in methods if method.uses_source])
        self._positions = {method: _positions(method.sample_channels(), self._union) for method in methods}
        self._moment_taps, self._whole_moments = moments_read(methods), moments_read(methods, selected=False)
        self._with_pictures = any(method.uses_pictures for method in methods)
        size = source.preprocessing.image_size
        blank = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=fabric.device)
        self._layout = Layout.of(self._picture(blank), self._observe(blank), settings.dtype)
        self._check_limit(settings.rows, parse_size(settings.limit))
        folder = settings.folder
        if folder is not None:
            layout = {"channels": _digest(self._union), "row": self._layout.to_dict()}
            self._claim(folder, {**settings.identity, **layout})
        self._rows = RowStore(folder, settings.rows, self._layout.size, fabric.global_rank)
        self.save, self.refresh = self._rows.save, self._rows.refresh
        place = "in memory" if folder is None else f"in {folder}"
        self.note = f"features of {settings.rows} views of pictures are kept {place}: {format_size(self._rows.bytes)}"

    @property
    def row_bytes(self) -> int:
        """Bytes of a view of a picture."""
        return self._layout.size

    def features(self, loader: DeviceLoader, row: Callable[[Any], int]) -> Iterable[FeatureBatch]:
        """Iterate over the batches of `loader`, from the cache where it has all of them, else from the source.

        Args:
            row: maps the key of a picture to its row.
        """
        return _CachedFeatures(self, loader, row)

    def has(self, rows: Tensor) -> bool:
        """Whether all of these rows are kept: (n,)."""
        return self._rows.has(rows)

    def put(self, rows: Tensor, images: Tensor, labels: Tensor) -> FeatureBatch:
        """Run the source for all methods, and keep the features."""
        features = self._observe(images)
        self._rows.write(rows, self._layout.pack(self._picture(images), features))
        return FeatureBatch(labels, partial(self._of_methods, features))

    def get(self, rows: Tensor, labels: Tensor) -> FeatureBatch:
        """Read the features of some rows."""
        device = self._fabric.device
        content = self._rows.read(rows)
        if device.type == "cuda":
            content, labels = content.pin_memory(), labels.pin_memory()
        content, labels = content.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        return FeatureBatch(labels, partial(self._of_methods, self._layout.unpack(content, self._source.preprocessing)))

    def _of_methods(self, features: Features, methods: Sequence[Method]) -> list[Features]:
        return [self._of_method(features, method) for method in methods]

    def _of_method(self, features: Features, method: Method) -> Features:
        """Select what a method reads. Moments of all channels of a map stay as they are."""
        positions = self._positions[method]
        moments = {}
        for tap in moments_read([method]):
            value, index = features.moments[tap], positions.get(tap)
            moments[tap] = value if tap in self._whole_moments or index is None else value.index_select(2, index)
        return replace(only(features, positions), moments=moments)

    def _observe(self, images: Tensor) -> Features:
        """Run the source, and gather the channels that are kept."""
        with self._fabric.autocast():
            [features] = observe_channels(
                self._source, self._methods, images, [self._union], moment_taps=[self._moment_taps]
            )
        return features

    def _picture(self, images: Tensor) -> Tensor | None:
        return images if self._with_pictures else None

    def _check_limit(self, rows: int, limit: int) -> None:
        row = self._layout.size
        if rows * row > limit:
            raise NoSpaceError(
                f"the features of {rows} views of pictures take {format_size(rows * row)}, {format_size(row)} each, "
                f"more than the {format_size(limit)} of the cache: use fewer views, smaller pictures or int8"
            )

    def _claim(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Check that the folder is empty or holds features of a run like this one."""
        path = folder / HEADER
        identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                kept = json.loads(path.read_text("utf-8"))
                differing = [name for name, value in identity.items() if kept.get(name) != value]
                if differing:
                    raise MismatchError(
                        f"{folder} holds features of another run ({', '.join(differing)} differ): remove it or name "
                        "another folder"
                    )
            elif self._fabric.is_global_zero:
                draft = path.with_suffix(".part")
                draft.write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
                draft.replace(path)  # the other processes of the run may be reading
        except SnowError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SnowError(f"{path}: {reason}: remove it or name another folder") from None


class _CachedFeatures:
    def __init__(self, cache: FeatureCache, loader: DeviceLoader, row: Callable[[Any], int]) -> None:
        self._cache, self._loader, self._row = cache, loader, row

    def __iter__(self) -> Iterator[FeatureBatch]:
        batches = list(self._loader.batches)
        rows = [torch.tensor([self._row(key) for key in keys]) for keys in batches]
        self._cache.refresh()
        if batches and self._cache.has(torch.cat(rows)):
            labels = self._loader.pictures.labels
            for keys, batch_rows in zip(batches, rows, strict=True):
                indices = [key[0] if isinstance(key, tuple) else key for key in keys]
                yield self._cache.get(batch_rows, labels[indices])
            return
        for batch_rows, (images, labels) in zip(rows, self._loader, strict=True):
            yield self._cache.put(batch_rows, images, labels)


def _union(channels_needed: Sequence[Channels]) -> dict[str, Tensor | None]:
    """Unite the channels that several methods need."""
    union: dict[str, Tensor | None] = {}
    for name in sorted({name for needed in channels_needed for name in needed}):
        channels = [needed[name] for needed in channels_needed if name in needed]
        indices = [index for index in channels if index is not None]
        union[name] = torch.cat(indices).unique() if len(indices) == len(channels) else None
    return union


def _positions(needed: Channels, union: Channels) -> dict[str, Tensor | None]:
    """Find a method's channels among those that are kept; None: the method needs all that are kept."""
    positions: dict[str, Tensor | None] = dict.fromkeys((*needed, FINAL))
    for name, channels in needed.items():
        kept = union.get(name)
        if channels is not None and kept is not None and len(channels) != len(kept):
            positions[name] = torch.searchsorted(kept, channels)
    return positions


def _digest(channels: Channels) -> str:
    listed = {name: None if index is None else index.tolist() for name, index in channels.items()}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def open_cache(job: TrainingJob, source: Source, data: TrainingData, fabric: Fabric) -> FeatureCache:
    """Open a cache for every view of a training picture, and for the held-out pictures.

    Args:
        job: its learners' choice of channels is frozen; its runtime has a cache.
        source: in the precision of the run.

    Raises:
        SnowError: several processes have no folder to share; and as `FeatureCache`.
    """
    recipe, runtime = job.recipe, job.runtime
    if runtime.cache_dir is None and fabric.world_size > 1:
        raise SnowError("a cache in memory cannot be shared by several processes: name a folder for it")
    assert runtime.cache is not None
    assert recipe.cache_dtype is not None
    identity = {
        "source": job.source.fingerprint,
        "data": data_digest(job.dataset),
        "augment": recipe.augment,
        "views": recipe.views,
        "validation": recipe.validation,
        "seed": recipe.seed,
        "precision": arithmetic(recipe.precision, fabric),
    }
    folder = None if runtime.cache_dir is None else Path(runtime.cache_dir)
    settings = CacheSettings(data.views, recipe.cache_dtype, runtime.cache, folder, identity)
    return FeatureCache(source, list(job.learners.values()), fabric, settings)
