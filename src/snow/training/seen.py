"""Batches of a run, as its learners see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from snow.methods.method import Method
from snow.methods.observing import observe_each
from snow.source import Features, Source


@dataclass(frozen=True)
class Seen:
    """A batch of B pictures, once it is seen.

    Attributes:
        labels: (B, T).
        features: given some methods, what each of them sees.
    """

    labels: Tensor
    features: Callable[[Sequence[Method]], Sequence[Features]]


class Online:
    """Pictures as the source sees them when they are asked for: one pass for all methods that ask together.

    Args:
        loading: (images, labels) by the batch.
    """

    def __init__(self, source: Source, loading: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._source, self._loading = source, loading

    def __iter__(self) -> Iterator[Seen]:
        for images, labels in self._loading:
            yield Seen(labels, partial(self._features, images))

    def _features(self, images: Tensor, methods: Sequence[Method]) -> Sequence[Features]:
        return observe_each(self._source, methods, images)
