"""What learners see of a batch: one pass of the source for all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from snow.methods import Method
from snow.source import FINAL, Features, Source
from snow.subscribe import gather_channels

AT_A_TIME = {"cpu": 16}
"""Pictures in a part of a pass, by the type of the device: on a CPU, few take little memory and hardly more time."""


def observe(source: Source, methods: Collection[Method], images: Tensor, logits: bool = False) -> Features:
    """One source pass with the union of the taps that the methods want; it stops where none of them looks further.

    Where no method uses the source there is no pass: the features are the normalised images, no maps, and `final`
    and `logits` of shape (B, 0).

    Args:
        images: (B, 3, S, S), uint8 in 0..255, on the source's device.
        logits: the answer of the source's own head is wanted, too.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    users = [method for method in methods if method.uses_source]
    if users or logits:
        taps = frozenset[str]().union(*(method.taps for method in users))
        return source(images, taps, final=logits or any(method.uses_final for method in users))
    normalised = source.preprocessing.normalize(images)
    nothing = normalised.new_empty(len(images), 0)
    return Features(images=normalised, maps={}, final=nothing, logits=nothing)


def observe_each(source: Source, methods: Sequence[Method], images: Tensor) -> list[Features]:
    """What each method sees in training: of its maps the channels that it looks at in its next `forward`, see
    `Method.sample_channels`, or whole maps where these take less memory because many methods look at them."""
    return observe_channels(source, methods, images, [method.sample_channels() for method in methods])


def observe_channels(
    source: Source,
    methods: Collection[Method],
    images: Tensor,
    channels_needed: Sequence[Mapping[str, Tensor | None]],
    logits: bool = False,
    at_a_time: int | None = None,
) -> list[Features]:
    """`observe`, a few pictures at a time, of which only what is wished for stays. A frozen source keeps nothing for a
    backward pass: what nobody looks at takes the memory of a few pictures, whatever the batch, and stays in the cache.

    Args:
        wishes: each the channels of some maps, see `only`. Where they add up to more than a map has, all get the whole
            map, which is then the same tensor.
        at_a_time: so many pictures, if the source does not mind; by default as `AT_A_TIME` says, or 64.
    """
    at_a_time = source.network.preferred_batch_size or at_a_time or AT_A_TIME.get(images.device.type, 64)
    if not logits and not any(method.uses_source for method in methods):
        at_a_time = len(images)
    first = observe(source, methods, images[:at_a_time], logits)
    channels_needed = _worthwhile(first, channels_needed)
    kept = [only(first, needed) for needed in channels_needed]
    if len(images) <= at_a_time:
        return kept
    rooms: dict[int, Tensor] = {}  # what several have in common has one
    whole = [each.map_tensors(lambda value: rooms.setdefault(id(value), _room(value, len(images)))) for each in kept]
    del kept
    _put(first, channels_needed, whole, 0)
    del first
    for start in range(at_a_time, len(images), at_a_time):
        _put(observe(source, methods, images[start : start + at_a_time], logits), channels_needed, whole, start)
    return whole


def only(features: Features, channels: Mapping[str, Tensor | None]) -> Features:
    """The maps with these names and the final features, `FINAL`, of these channels alone; None: all of them."""
    maps = {name: _picked(value, channels[name]) for name, value in features.maps.items() if name in channels}
    return Features(features.images, maps, _picked(features.final, channels.get(FINAL)), features.logits)


def in_full_precision(features: Features) -> Features:
    """The same features as float32, whatever the pass was computed in."""
    return features.map_tensors(Tensor.float)


def _worthwhile(
    features: Features, channels_needed: Sequence[Mapping[str, Tensor | None]]
) -> list[dict[str, Tensor | None]]:
    """The wishes for maps of which they leave something out."""
    wished: dict[str, int] = {}
    for needed in channels_needed:
        for name, channels in needed.items():
            has = (features.final if name == FINAL else features.maps[name]).shape[1]
            wished[name] = wished.get(name, -has) + (has if channels is None else len(channels))
    return [
        {name: None if wished[name] > 0 else channels for name, channels in needed.items()}
        for needed in channels_needed
    ]


def _picked(value: Tensor, index: Tensor | None) -> Tensor:
    return value if index is None else gather_channels(value, index.to(value.device))


def _room(part: Tensor, count: int) -> Tensor:
    """For as many pictures, laid out in memory as a part is."""
    layout = torch.channels_last if part.ndim == 4 and not part.is_contiguous() else torch.contiguous_format
    return torch.empty(count, *part.shape[1:], dtype=part.dtype, device=part.device, memory_format=layout)


def _put(
    part: Features, channels_needed: Sequence[Mapping[str, Tensor | None]], whole: Sequence[Features], start: int
) -> None:
    """Takes what is wished for of a part's features to its place, what several have in common once."""
    filled: set[int] = set()
    for needed, each in zip(channels_needed, whole, strict=True):
        rows = each.rows(start, start + len(part.images))
        copied = [(part.images, None, rows.images), (part.logits, None, rows.logits)]
        maps = [(part.maps[name], needed[name], place) for name, place in rows.maps.items()]
        for value, index, place in [*copied, (part.final, needed.get(FINAL), rows.final), *maps]:
            if place.data_ptr() in filled:
                continue
            filled.add(place.data_ptr())
            if index is None:
                place.copy_(value)
            else:
                gather_channels(value, index.to(value.device), out=place)


@dataclass(frozen=True)
class FeatureBatch:
    """A batch of B pictures, once it is seen.

    Attributes:
        labels: (B, T).
        features: given some methods, what each of them sees.
    """

    labels: Tensor
    features: Callable[[Sequence[Method]], Sequence[Features]]


class LiveFeatures:
    """Pictures as the source sees them when they are asked for: one pass for all methods that ask together.

    Args:
        loading: (images, labels) by the batch.
    """

    def __init__(self, source: Source, loading: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._source, self._loading = source, loading

    def __iter__(self) -> Iterator[FeatureBatch]:
        for images, labels in self._loading:
            yield FeatureBatch(labels, partial(self._features, images))

    def _features(self, images: Tensor, methods: Sequence[Method]) -> Sequence[Features]:
        return observe_each(self._source, methods, images)
