"""What learners see of a batch: one pass of the source for all of them, or none."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from snow.methods.method import Method
from snow.source import Features, Source

AT_A_TIME = {"cpu": 8}
"""Pictures in a part of a pass, by the type of the device: a CPU is as fast with few as with many."""


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


def observe_in_parts(source: Source, methods: Collection[Method], images: Tensor) -> Features:
    """`observe`, a few pictures at a time. A frozen source keeps nothing for a backward pass: what no method looks at
    takes the memory of a few pictures, whatever the batch."""
    at_a_time = AT_A_TIME.get(images.device.type, 64)
    if len(images) <= at_a_time or not any(method.uses_source for method in methods):
        return observe(source, methods, images)
    first = observe(source, methods, images[:at_a_time])
    whole = Features(
        _room(first.images, len(images)),
        {name: _room(value, len(images)) for name, value in first.maps.items()},
        _room(first.final, len(images)),
        _room(first.logits, len(images)),
    )
    _put(first, whole, 0)
    del first
    for start in range(at_a_time, len(images), at_a_time):
        _put(observe(source, methods, images[start : start + at_a_time]), whole, start)
    return whole


def in_full_precision(features: Features) -> Features:
    """The same features as float32, whatever the pass was computed in."""
    return Features(
        images=features.images.float(),
        maps={name: value.float() for name, value in features.maps.items()},
        final=features.final.float(),
        logits=features.logits.float(),
    )


def _room(part: Tensor, count: int) -> Tensor:
    """For as many pictures, laid out in memory as a part is."""
    layout = torch.channels_last if part.ndim == 4 and not part.is_contiguous() else torch.contiguous_format
    return torch.empty(count, *part.shape[1:], dtype=part.dtype, device=part.device, memory_format=layout)


def _put(part: Features, whole: Features, start: int) -> None:
    rows = whole.rows(start, start + len(part.images))
    for here, there in [(part.images, rows.images), (part.final, rows.final), (part.logits, rows.logits)]:
        there.copy_(here)
    for name, value in part.maps.items():
        rows.maps[name].copy_(value)
