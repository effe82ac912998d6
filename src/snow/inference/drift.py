"""Whether pictures differ from those that a task was trained on: one verdict for a window of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from snow.inference.reference import Differences, Traits
from snow.inference.windows import distance_below
from snow.kinds import Prediction

DISTANCE = 0.1
"""Distance of familiarities that another sample of the same pictures may have beside chance."""


@dataclass(frozen=True)
class Drift:
    """How pictures differ from those that a task was trained on.

    Attributes:
        images: pictures that were compared.
        distance: by how much the share of pictures below a familiarity is larger than for own pictures, at most
            (Smirnov), 0..1. Pictures that are more familiar are no evidence: those of training are, to few pictures.
        median: familiarity that half of the pictures reach; 0.5 for own pictures.
        unfamiliar: share of pictures below a familiarity of 0.05.
        content: by how much more than chance what the pictures show differs in the mean, 0..1; None for a task that
            keeps no reference, see `snow.inference.reference`.
        appearance: the same of their light, contrast, tint and sharpness.
        has_changed: the distance is larger than `DISTANCE` and than chance makes it in 1 of 100 samples, or one of the
            two differences is not 0, which chance does in 1 of 100 samples.
    """

    images: int
    distance: float
    median: float
    unfamiliar: float
    content: float | None
    appearance: float | None
    has_changed: bool

    @classmethod
    def of(cls, known: Sequence[float], traits: Sequence[Traits] = ()) -> Self:
        """Compare pictures with those of training.

        Args:
            known: familiarities. Those of own pictures are spread evenly over 0..1.
            traits: of the pictures, all with the same reference; () for a task that keeps none.
        """
        return cls.from_differences(known, traits[0].reference.differences(traits) if traits else None)

    @classmethod
    def from_differences(cls, known: Sequence[float], differences: Differences | None) -> Self:
        """As `of`, where the differences are there already."""
        content, appearance = (None, None) if differences is None else differences[:2]
        values = torch.tensor(known, dtype=torch.float64)
        count = len(values)
        if not count:
            return cls(0, 0.0, 0.5, 0.0, content, appearance, False)
        distance, unfamiliar = float(distance_below(values)), float((values < 0.05).double().mean())
        chance = max(1.52 / count**0.5, 0.0 if differences is None else differences.distance)
        has_changed = distance > DISTANCE + chance or bool(content or appearance)
        return cls(count, distance, float(values.median()), unfamiliar, content, appearance, has_changed)

    @property
    def strength(self) -> float:
        """The largest of the three differences."""
        return max(self.distance, self.content or 0.0, self.appearance or 0.0)


def familiarity_of(prediction: Prediction) -> float | None:
    """Return how familiar a picture is, without how sure the task is of it; None where the task does not tell it."""
    traits = prediction.traits
    return traits.familiar if isinstance(traits, Traits) and traits.familiar is not None else prediction.known
