"""How sure a task is of a picture, beside how familiar the picture is to it.

A car of another make lies among the cars that a task knows, and is not told from them by the source's final features;
but the task is less sure of it than of its own (Hendrycks & Gimpel, ICLR 2017). A picture of something else lies far
from all of them, however sure the task is. So both are asked, as two tests of one hypothesis (Fisher, 1925).

Shape letters: B pictures, h held-out pictures of a task, C classes, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from snow.errors import DamagedError
from snow.kinds.scores import auroc

QUANTILES = 201
"""Of the scores of pictures that were not learned."""

MIN_HELD_OUT = 40
"""With fewer held-out pictures, familiarity stands alone."""

WEIGHTS = (0.0, 0.25, 0.5)
"""Candidates of the weight of confidence. Classes that are left out resemble the others. What else may come does not,
and only familiarity tells it: so confidence counts for a half at most, as in Fisher's test."""


@dataclass(frozen=True)
class Confidence:
    """The largest probability of a task's answers for pictures of its own that it has not learned.

        sure = share of held-out pictures with a smaller largest probability
        joint = (1 - weight) log(familiar) + weight log(sure)

    Attributes:
        probabilities: (Q,), quantiles of the logarithm of the largest probability.
        joint: (Q,), quantiles of the above.
        weight: ().
    """

    probabilities: Tensor
    joint: Tensor
    weight: Tensor

    @classmethod
    def fit(cls, familiar: Tensor, strange: Tensor, logits: Tensor, label: Tensor) -> Self | None:
        """Fit the weight by classes that are left out in turn; None where confidence tells nothing more.

        A picture of a class that is left out stands for one of an unknown class: it is as familiar as to a task
        without this class, and as sure as its answer without this class's logit.

        Args:
            familiar: (h,), familiarities by statistics without these pictures.
            strange: (h,), the same without the class of each.
            logits: (h, C).
            label: (h,).
        """
        classes = logits.shape[1]
        if len(label) < MIN_HELD_OUT or classes < 3 or not logits.isfinite().all():
            return None
        own, other = _largest(logits), _largest(logits.masked_fill(one_hot(label, classes).bool(), -torch.inf))
        probabilities = quantiles_of(own)
        sure, unsure = share_below(probabilities, own), share_below(probabilities, other)
        is_own = torch.arange(2 * len(label)) < len(label)
        areas = [
            auroc(torch.cat([_joint(familiar, sure, weight), _joint(strange, unsure, weight)]).double(), is_own)
            for weight in WEIGHTS
        ]
        weight = WEIGHTS[areas.index(max(areas))]
        if not weight:
            return None
        return cls(probabilities, quantiles_of(_joint(familiar, sure, weight)), torch.tensor(weight))

    def known(self, familiar: Tensor, logits: Tensor) -> Tensor:
        """Join familiarity and confidence: (B,), (B, C) -> (B,) in 0..1, spread evenly for own pictures."""
        sure = share_below(self.probabilities, _largest(logits.float()))
        return share_below(self.joint, _joint(familiar, sure, float(self.weight)))

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Read what `tensors` gave. Raises DamagedError: one is missing or has a wrong shape."""
        shapes = {"probabilities": (QUANTILES,), "joint": (QUANTILES,), "weight": ()}
        if {name: tuple(value.shape) for name, value in tensors.items()} != shapes:
            raise DamagedError("the statistics of training pictures are damaged: the confidence has wrong tensors")
        return cls(**tensors)


def quantiles_of(scores: Tensor) -> Tensor:
    """Compute the quantiles of scores: (n,) -> (Q,), ascending."""
    return torch.quantile(scores.double(), torch.linspace(0, 1, QUANTILES, dtype=torch.float64)).float()


def share_below(quantiles: Tensor, scores: Tensor) -> Tensor:
    """Compute the share of the pictures behind some quantiles that have lower scores: (Q,), (B,) -> (B,) in 0..1.

    Below all of them it falls to 0 with the distance.
    """
    last = len(quantiles) - 1
    place = torch.searchsorted(quantiles, scores.contiguous()).clamp(1, last)
    low, high = quantiles[place - 1], quantiles[place]
    share = (place - 1 + ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)) / last
    width = (quantiles[last // 2] - quantiles[0]).clamp(min=1e-12)
    tail = torch.exp((scores - quantiles[0]).clamp(max=0) / width) / (2 * last)
    return torch.where(scores < quantiles[0], tail, share.clamp(min=1 / (2 * last)))


def _largest(logits: Tensor) -> Tensor:
    """Compute the logarithm of the largest probability: (B, C) -> (B,)."""
    return logits.log_softmax(1).amax(1)


def _joint(familiar: Tensor, sure: Tensor, weight: float) -> Tensor:
    return (1 - weight) * familiar.clamp(min=1e-30).log() + weight * sure.clamp(min=1e-30).log()
