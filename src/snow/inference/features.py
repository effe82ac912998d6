"""Features for many readers: one pass of the source per batch, of which each method keeps the channels it reads.

Shape letters: B pictures, S side of a picture in pixels, N channels of a map, K channels that a method reads, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from snow.methods import Method
from snow.source import FINAL, Features, Source
from snow.subscribe import gather_channels, moments

CHUNK_SIZE = {"cpu": 16}
"""Pictures per chunk of a pass, by device type. On a CPU, small chunks take little memory and hardly more time."""

DEFAULT_CHUNK_SIZE = 64

Channels = Mapping[str, Tensor | None]
"""Map name, or `FINAL` -> indices of channels (K,), or None for all."""


def observe(source: Source, methods: Collection[Method], images: Tensor) -> Features:
    """Run the source once and return whole maps: (B, 3, S, S) -> the union of the taps that the methods read.

    The pass stops behind the last of these taps unless a method reads the final features. If no method uses the
    source there is no pass: the features are the normalised images, no maps, and `final` and `logits` of shape (B, 0).

    Args:
        images: uint8, on the source's device.
    """
    needs = _needs(methods)
    images = images.contiguous(memory_format=torch.channels_last)
    if needs is not None:
        return _with_moments(source(images, needs.taps, needs.final), needs)
    normalised = source.preprocessing.normalize(images)
    nothing = normalised.new_empty(len(images), 0)
    return Features(images=normalised, maps={}, final=nothing, logits=nothing)


def observe_channels(
    source: Source,
    methods: Sequence[Method | None],
    images: Tensor,
    channels_needed: Sequence[Channels] | None = None,
    chunk_size: int | None = None,
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
    """
    if channels_needed is None:
        channels_needed = [{} if method is None else method.sample_channels() for method in methods]
    needs = _needs(methods)
    if needs is None:
        return [observe(source, [], images)] * len(channels_needed)
    step = source.network.preferred_batch_size or chunk_size or CHUNK_SIZE.get(images.device.type, DEFAULT_CHUNK_SIZE)
    first = source(images[:step].contiguous(memory_format=torch.channels_last), needs.taps, needs.final)
    first = _with_moments(first, needs)
    channels_needed = _worthwhile(first, channels_needed)
    kept = [only(first, channels) for channels in channels_needed]
    if len(images) <= step:
        return kept
    buffers: dict[int, Tensor] = {}  # one buffer for a tensor that several features share
    features = [
        entry.map_tensors(lambda value: buffers.setdefault(id(value), _buffer(value, len(images)))) for entry in kept
    ]
    del kept
    _fill(first, channels_needed, features, 0)
    del first
    for start in range(step, len(images), step):
        chunk = images[start : start + step].contiguous(memory_format=torch.channels_last)
        _fill(_with_moments(source(chunk, needs.taps, needs.final), needs), channels_needed, features, start)
    return features


def only(features: Features, channels: Channels) -> Features:
    """Select channels of the final features (`FINAL`) and of the named maps: (B, N, H, W) -> (B, K, H, W)."""
    maps = {name: _select(value, channels[name]) for name, value in features.maps.items() if name in channels}
    return replace(features, maps=maps, final=_select(features.final, channels.get(FINAL)))


def in_full_precision(features: Features) -> Features:
    """Convert all tensors of the features to float32."""
    return features.map_tensors(Tensor.float)


class _Needs(NamedTuple):
    """What the methods read of a pass: maps of taps, the final features, moments of taps."""

    taps: frozenset[str]
    final: bool
    moment_taps: frozenset[str]


def _needs(methods: Collection[Method | None]) -> _Needs | None:
    """Unite what the methods read; None if no method uses the source."""
    users = [method for method in methods if method is None or method.uses_source]
    if not users:
        return None
    readers = [method for method in users if method is not None]
    moment_taps = frozenset[str]().union(*(method.moment_taps for method in readers))
    taps = moment_taps.union(*(method.taps for method in readers))
    return _Needs(taps, any(method is None or method.uses_final for method in users), moment_taps)


def _with_moments(features: Features, needs: _Needs) -> Features:
    """Compute the moments of a map once for all methods that read them."""
    taps = sorted(needs.moment_taps)
    return replace(features, moments={tap: moments(features.maps[tap].float()) for tap in taps}) if taps else features


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
        copied += [(chunk.moments[tap], None, place) for tap, place in rows.moments.items()]
        maps = [(chunk.maps[name], needed[name], place) for name, place in rows.maps.items()]
        for value, index, place in [*copied, (chunk.final, needed.get(FINAL), rows.final), *maps]:
            if place.data_ptr() in filled:
                continue
            filled.add(place.data_ptr())
            if index is None:
                place.copy_(value)
            else:
                gather_channels(value, index.to(value.device), out=place)


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
