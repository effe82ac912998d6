"""What learners see of a batch: one pass of the source for all of them, or none."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from snow.methods.method import Method
from snow.source import Features, Source


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


def in_full_precision(features: Features) -> Features:
    """The same features as float32, whatever the pass was computed in."""
    return Features(
        images=features.images.float(),
        maps={name: value.float() for name, value in features.maps.items()},
        final=features.final.float(),
        logits=features.logits.float(),
    )
