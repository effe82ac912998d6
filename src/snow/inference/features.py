"""Features for many readers: one pass of the source per batch, of which each method keeps the channels it reads.

Shape letters: B pictures, S side of a picture in pixels, N channels of a map, K channels that a method reads, T tasks.
Moments are the mean and the standard deviation of a channel over space, (B, 2, N).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from torch import Tensor

from snow.methods import Method
from snow.source import FINAL, Features, Source
from snow.subscribe import gather_channels, moments

CHUNK_SIZE = {"cpu": 16}
"""Pictures per chunk of a pass, by device type. On a CPU, small chunks take little memory and hardly more time."""

DEFAULT_CHUNK_SIZE = 64

CACHED_VALUES = 2**18
"""Values of a map whose moments are computed at once on a CPU: 1 MB, which a core's own cache holds."""

Channels = Mapping[str, Tensor | None]
"""Map name, or `FINAL` -> indices of channels (K,), or None for all."""


def observe(source: Source, methods: Collection[Method], images: Tensor) -> Features:
    """Run the source once and return whole maps: (B, 3, S, S) -> the union of the taps that the methods read.

    Of `Method.moment_taps` it returns the moments too.

    The pass stops behind the last of these taps unless a method reads the final features. If no method uses the
    source there is no pass: the features are the normalised images, no maps, and `final` and `logits` of shape (B, 0).

    Args:
        images: uint8, on the source's device.
    """
    needs = _needs(methods)
    images = images.contiguous(memory_format=torch.channels_last)
    if needs is not None:
        readers = [method for method in methods if method.uses_source]
        return _add_moments(source(images, *needs), moments_read(readers, selected=False))
    normalised = source.preprocessing.normalize(images)
    nothing = normalised.new_empty(len(images), 0)
    return Features(images=normalised, maps={}, final=nothing, logits=nothing)


def observe_chunks(
    source: Source,
    methods: Sequence[Method | None],
    images: Tensor,
    chunk_size: int | None = None,
) -> Iterator[Features]:
    """Run the source once for many methods that answer chunk by chunk: (B, 3, S, S) -> whole maps of each chunk.

    Args:
        methods: None stands for the source's own logits.
        images: uint8, on the source's device.
        chunk_size: as for `observe_channels`.
    """
    needs = _needs(methods)
    for start, stop in _chunks(source, images, chunk_size):
        chunk = images[start:stop].contiguous(memory_format=torch.channels_last)
        # no name for the features here: maps of a chunk are freed before the next chunk passes
        if needs is None:
            yield observe(source, [], chunk)
        else:
            yield source(chunk, *needs)


def moments_read(methods: Collection[Method], selected: bool = True) -> frozenset[str]:
    """Name the taps whose moments the methods read.

    Args:
        selected: also those of which a method reads its selected channels only.
    """
    taps = frozenset[str]().union(*{method.moment_taps for method in methods})
    return taps.union(*{method.selected_moment_taps for method in methods}) if selected else taps


def _add_moments(features: Features, taps: Collection[str]) -> Features:
    """Compute the moments of whole maps."""
    return replace(features, moments={tap: moments_of(features.maps[tap]) for tap in taps})


def moments_of(x: Tensor) -> Tensor:
    """Compute the moments of a map a few pictures at a time, in the processor's cache: (B, N, H, W) -> (B, 2, N)."""
    pictures = max(1, CACHED_VALUES // prod(x.shape[1:])) if x.device.type == "cpu" else len(x)
    if len(x) <= pictures:
        return moments(x.float())
    return torch.cat([moments(part.float()) for part in x.split(pictures)])


def observe_channels(
    source: Source,
    methods: Sequence[Method | None],
    images: Tensor,
    channels_needed: Sequence[Channels] | None = None,
    chunk_size: int | None = None,
    moment_taps: Sequence[Collection[str]] | None = None,
) -> list[Features]:
    """Run the source once for many methods: (B, 3, S, S) -> the features that each of them reads.

    The batch passes in chunks, and of each chunk only the channels that are read are kept. A frozen source stores
    nothing for a backward pass, so that all other activations take the memory of one chunk, whatever the batch size,
    and stay in the processor's cache.

    Args:
        methods: None stands for the source's own logits.
        images: uint8, on the source's device.
        channels_needed: the channels to keep, one entry for each features to return; by default those that each
            method reads in its next `forward`, see `Method.sample_channels`. Where the entries add up to more
            channels than a map has, all of them get the whole map, as one shared tensor.
        chunk_size: pictures per chunk; by default `CHUNK_SIZE`. A network with a preferred batch size overrides it.
        moment_taps: for each entry the taps of whose channels moments are read; by default those of each method. They
            are computed here, once for all entries that share a whole map.
    """
    if moment_taps is None:
        moment_taps = [() if method is None else moments_read([method]) for method in methods]
    if channels_needed is None:
        channels_needed = [{} if method is None else method.sample_channels() for method in methods]
    needs = _needs(methods)
    if needs is None:
        return [observe(source, [], images)] * len(channels_needed)
    (_, step), *chunks = _chunks(source, images, chunk_size)
    first = source(images[:step].contiguous(memory_format=torch.channels_last), *needs)
    channels_needed = _worthwhile(first, channels_needed)
    shared = _shared_moments(channels_needed, moment_taps) | moments_read(
        [method for method in methods if method is not None], selected=False
    )
    first = _add_moments(first, shared)
    kept = [
        _with_moments(only(first, channels), taps) for channels, taps in zip(channels_needed, moment_taps, strict=True)
    ]
    if not chunks:
        return kept
    buffers: dict[int, Tensor] = {}  # one buffer for a tensor that several features share
    features = [
        entry.map_tensors(lambda value: buffers.setdefault(id(value), _buffer(value, len(images)))) for entry in kept
    ]
    del kept
    _fill(first, channels_needed, features, 0)
    del first
    for start, stop in chunks:
        chunk = source(images[start:stop].contiguous(memory_format=torch.channels_last), *needs)
        _fill(_add_moments(chunk, shared), channels_needed, features, start)
    return features


def only(features: Features, channels: Channels) -> Features:
    """Select channels of the final features (`FINAL`) and of the named maps: (B, N, H, W) -> (B, K, H, W).

    Moments stay those of all channels that were kept.
    """
    maps = {name: _select(value, channels[name]) for name, value in features.maps.items() if name in channels}
    return replace(features, maps=maps, final=_select(features.final, channels.get(FINAL)))


def in_full_precision(features: Features) -> Features:
    """Convert all tensors of the features to float32."""
    return features.map_tensors(Tensor.float)


def _needs(methods: Collection[Method | None]) -> tuple[frozenset[str], bool] | None:
    """Return the taps that are read, and whether the final features are; None if no method uses the source."""
    users = [method for method in methods if method is None or method.uses_source]
    if not users:
        return None
    taps = frozenset[str]().union(*(method.taps | method.moment_taps for method in users if method is not None))
    return taps, any(method is None or method.uses_final for method in users)


def _worthwhile(features: Features, channels_needed: Sequence[Channels]) -> list[dict[str, Tensor | None]]:
    """Replace the channels of a map by None, the whole map, where keeping them apart would take more memory."""
    excess: dict[str, int] = {}  # channels that are kept, minus channels that there are
    for needed in channels_needed:
        for name, channels in needed.items():
            count = (features.final if name == FINAL else features.maps[name]).shape[1]
            excess[name] = excess.get(name, -count) + (count if channels is None else len(channels))
    return [
        {name: None if excess[name] > 0 else channels for name, channels in needed.items()}
        for needed in channels_needed
    ]


def _chunks(source: Source, images: Tensor, chunk_size: int | None) -> list[tuple[int, int]]:
    """List first and last picture of each chunk of a pass."""
    step = source.network.preferred_batch_size or chunk_size or CHUNK_SIZE.get(images.device.type, DEFAULT_CHUNK_SIZE)
    return [(start, min(start + step, len(images))) for start in range(0, max(len(images), 1), step)]


def _shared_moments(channels_needed: Sequence[Channels], moment_taps: Sequence[Collection[str]]) -> set[str]:
    """Name the whole maps whose moments are read. Where channels are kept apart, each entry computes its own few."""
    pairs = zip(channels_needed, moment_taps, strict=True)
    return {tap for channels, taps in pairs for tap in taps if channels.get(tap) is None}


def _with_moments(features: Features, taps: Collection[str]) -> Features:
    """Keep the moments that are read, and compute those that are missing from the channels that were kept."""
    known = features.moments
    return replace(
        features, moments={tap: known[tap] if tap in known else moments_of(features.maps[tap]) for tap in sorted(taps)}
    )


def _select(value: Tensor, index: Tensor | None) -> Tensor:
    return value if index is None else gather_channels(value, index.to(value.device))


def _buffer(chunk: Tensor, count: int) -> Tensor:
    """Allocate room for `count` pictures in the memory layout of a chunk: (b, ...) -> (count, ...)."""
    layout = torch.channels_last if chunk.ndim == 4 and not chunk.is_contiguous() else torch.contiguous_format
    return torch.empty(count, *chunk.shape[1:], dtype=chunk.dtype, device=chunk.device, memory_format=layout)


def _fill(chunk: Features, channels_needed: Sequence[Channels], features: Sequence[Features], start: int) -> None:
    """Copy the needed channels of a chunk into the features of the batch; shared tensors are copied once."""
    filled: set[int] = set()
    for needed, target in zip(channels_needed, features, strict=True):
        rows = target.rows(start, start + len(chunk.images))
        copied = [(chunk.images, None, rows.images), (chunk.logits, None, rows.logits)]
        maps = [(chunk.maps[name], needed[name], place) for name, place in rows.maps.items()]
        for value, index, place in [*copied, (chunk.final, needed.get(FINAL), rows.final), *maps]:
            if place.data_ptr() in filled:
                continue
            filled.add(place.data_ptr())
            if index is None:
                place.copy_(value)
            else:
                gather_channels(value, index.to(value.device), out=place)
        for name, place in rows.moments.items():
            if place.data_ptr() not in filled:
                filled.add(place.data_ptr())
                place.copy_(chunk.moments[name] if name in chunk.moments else moments_of(rows.maps[name]))


@dataclass(frozen=True)
class FeatureBatch:
    """Labels and features of one batch.

    Attributes:
        labels: (B, T).
        features: computes, for some methods, the features that each of them reads.
    """

    labels: Tensor
    features: Callable[[Sequence[Method]], Sequence[Features]]


class LiveFeatures:
    """Computes features batch by batch: one pass of the source for all methods that ask together.

    Args:
        loading: (images, labels) of each batch.
    """

    def __init__(self, source: Source, loading: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._source, self._loading = source, loading

    def __iter__(self) -> Iterator[FeatureBatch]:
        for images, labels in self._loading:
            yield FeatureBatch(labels, partial(self._features, images))

    def _features(self, images: Tensor, methods: Sequence[Method]) -> Sequence[Features]:
        return observe_channels(self._source, methods, images)
