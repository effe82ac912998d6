"""How likely labels are, given the answers of a regression: what differs from kind to kind of label in a start.

Shape letters beside those of the room: r rows that are judged. Labels are numbers of classes (r,), or targets (r, C) in
the units of outputs, NaN where nothing is known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.functional import one_hot

from snow.subscribe.statistics import channel_score

SLIPS = 0.02
"""Where the share of slips starts from in `robust_scale`."""

STRATUM = 5
"""Pictures with close numbers that are dealt out to folds together."""

STEPS = 50
"""Upper bound of the steps of Newton's method in `sigmoid_fit`."""


class Scaling(NamedTuple):
    """How answers (r, C) become outputs: `answers * factor + offset`, with a number or (C,) of each."""

    factor: float | Tensor
    offset: float | Tensor = 0.0


class Likelihood(ABC):
    """How labels are distributed around the outputs of a method.

    Attributes:
        figure: key of the figure that is measured beside the loss.
        grows: answers of a fit to more pictures may be surer, and their factor larger.
        has_ranks: with many outputs, discriminants of a lower rank may take the place of a regression.
    """

    figure: ClassVar[str] = "accuracy"
    grows: ClassVar[bool] = False
    has_ranks: ClassVar[bool] = False

    def is_known(self, labels: Tensor) -> Tensor:
        """Find the rows of which something is known: (r,) or (r, C) -> (r,) of bool."""
        return labels.isfinite().any(1)

    @abstractmethod
    def can_fit(self, labels: Tensor) -> bool:
        """Whether the labels of known rows differ, so that something can be fitted to them."""

    @abstractmethod
    def strata(self, labels: Tensor) -> Tensor:
        """Number the groups of rows that each fold has its part of: -> (r,)."""

    def members(self, labels: Tensor) -> int:
        """Count the rows that are dealt out to folds, so that no fold is without any."""
        return len(labels)

    @abstractmethod
    def targets(self, labels: Tensor, outputs: int) -> Tensor:
        """Turn the labels of known rows into what is regressed: -> (r, C), finite."""

    def scores(self, values: Tensor, labels: Tensor, outputs: int) -> Tensor:
        """Score inputs by what each says of the labels; larger says more: (r, I) -> (I,)."""
        return channel_score(values, labels)

    def observations(self, labels: Tensor) -> int:
        """Count what the mean loss is over."""
        return len(labels)

    @abstractmethod
    def measure(self, answers: Tensor, labels: Tensor) -> tuple[float, float]:
        """Return the mean negative log-likelihood of scaled answers (r, C), and the figure."""

    @abstractmethod
    def scaling(self, answers: Tensor, labels: Tensor) -> Scaling:
        """Find the scaling of answers (r, C) that suits the labels."""

    @abstractmethod
    def losses(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """Return the loss of each row at the one factor that suits the outputs (r, C), (r,), and the figure."""

    @abstractmethod
    def factor(self, outputs: Tensor, labels: Tensor) -> float:
        """Find the one factor of outputs (r, C) that suits the labels, robustly."""


class Categorical(Likelihood):
    """One of C classes: `softmax(outputs)`."""

    grows: ClassVar[bool] = True
    has_ranks: ClassVar[bool] = True

    def is_known(self, labels: Tensor) -> Tensor:
        return labels >= 0

    def can_fit(self, labels: Tensor) -> bool:
        return len(labels.unique()) > 1

    def strata(self, labels: Tensor) -> Tensor:
        return labels

    def members(self, labels: Tensor) -> int:
        """Those of the smallest class."""
        counts = torch.bincount(labels)
        return int(counts[counts > 0].min())

    def targets(self, labels: Tensor, outputs: int) -> Tensor:
        return one_hot(labels, outputs)

    def scores(self, values: Tensor, labels: Tensor, outputs: int) -> Tensor:
        """Compute F ratios over the classes (Fisher, 1925)."""
        classes = one_hot(labels, outputs).float()
        counts = classes.sum(0)[:, None]
        values = values - values.mean(0)
        between = (counts * (classes.T @ values / counts.clamp(min=1)).square()).sum(0)
        total = values.square().sum(0)
        return between / (total - between).clamp(min=1e-6 * float(total.mean()) + 1e-12)

    def measure(self, answers: Tensor, labels: Tensor) -> tuple[float, float]:
        return log_loss(answers * best_scale(answers, labels), labels), self._accuracy(answers, labels)

    def scaling(self, answers: Tensor, labels: Tensor) -> Scaling:
        return Scaling(robust_scale(answers, labels))

    def losses(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        losses = F.cross_entropy(outputs * best_scale(outputs, labels), labels, reduction="none")
        return losses, self._accuracy(outputs, labels)

    def factor(self, outputs: Tensor, labels: Tensor) -> float:
        return robust_scale(outputs, labels)

    def _accuracy(self, answers: Tensor, labels: Tensor) -> float:
        return float((answers.argmax(1) == labels).float().mean())


class Normal(Likelihood):
    """A number with errors of one variance: the output is the number itself. The loss is that of this variance."""

    figure: ClassVar[str] = "r2"

    def can_fit(self, labels: Tensor) -> bool:
        return len(labels.unique()) > 1

    def strata(self, labels: Tensor) -> Tensor:
        """Put `STRATUM` or more pictures with the next larger numbers together."""
        place = labels[:, 0].argsort(stable=True).argsort()
        return place * max(1, len(labels) // STRATUM) // max(1, len(labels))

    def targets(self, labels: Tensor, outputs: int) -> Tensor:
        return labels

    def measure(self, answers: Tensor, labels: Tensor) -> tuple[float, float]:
        """The loss is without its constant: the logarithm of the root of the mean squared error."""
        error = float((answers - labels).square().mean())
        return 0.5 * math.log(max(error, 1e-12)), self._explained(error, labels)

    def scaling(self, answers: Tensor, labels: Tensor) -> Scaling:
        return Scaling(1.0)

    def losses(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The losses are squared errors."""
        errors = (outputs - labels).square().mean(1)
        return errors, self._explained(float(errors.mean()), labels)

    def factor(self, outputs: Tensor, labels: Tensor) -> float:
        return 1.0

    def _explained(self, error: float, labels: Tensor) -> float:
        """Compute R², the part of the variance that a mean squared error leaves out."""
        return 1 - error / max(float(labels.var(correction=0)), 1e-12)


CATEGORICAL, NORMAL = Categorical(), Normal()


def log_loss(logits: Tensor, label: Tensor) -> float:
    """Compute the mean cross-entropy: (r, C), (r,)."""
    return float(F.cross_entropy(logits, label))


def robust_scale(answers: Tensor, label: Tensor, rounds: int = 10) -> float:
    """Find the factor s of answers (r, C) that suits softmax(s * answers), but for a share of slips.

    Of many classes a few left-out pictures are answered wrongly and surely, and a log-loss makes all others unsure for
    their sake. Here the probability of a label is `(1 - e) softmax(s * answers) + e / C`; s and e are fitted by
    expectation and maximisation (Dempster et al., 1977), and e is dropped.
    """
    scale, slips = best_scale(answers, label), SLIPS
    for _ in range(rounds):
        right = torch.softmax(answers * scale, 1).gather(1, label[:, None])[:, 0] * (1 - slips)
        weight = right / (right + slips / answers.shape[1])
        slips = float(1 - weight.mean())
        scale = best_scale(answers, label, weight)
    return scale


def best_scale(answers: Tensor, label: Tensor, weight: Tensor | None = None, steps: int = 25) -> float:
    """Find the factor s of answers (r, C) with the smallest log-loss of softmax(s * answers), by Newton's method.

    The targets give away `1 / (r + 2)` of their probability, so that a few pictures that are all right do not make the
    answers infinitely sure (after Platt, 1999).

    Args:
        weight: (r,), of each row; None: all weigh the same.
    """
    classes = answers.shape[1]
    share = torch.full_like(answers[:, 0], 1 / len(label)) if weight is None else weight / weight.sum().clamp(min=1e-12)
    spare = 1 / (len(label) + 2)
    right = answers.gather(1, label[:, None])[:, 0]
    others = (answers.sum(1) - right) / max(1, classes - 1)
    target = float(((1 - spare) * right + spare * others) @ share)
    spread = float((answers - answers.mean(1, keepdim=True)).square().mean().sqrt())
    if not spread > 0 or math.isnan(spread):
        return 1.0
    low, high = math.log(0.01 / spread), math.log(100 / spread)
    scale = 1 / spread
    for _ in range(steps):
        probability = torch.softmax(answers * scale, 1)
        mean = (probability * answers).sum(1)
        slope = float(mean @ share) - target
        curvature = float(((probability * answers.square()).sum(1) - mean.square()) @ share)
        step = max(scale / 4, min(scale * 4, scale - slope / max(curvature, 1e-12 * spread**2)))
        step = math.exp(min(high, max(low, math.log(step))))
        if abs(step - scale) < 1e-4 * scale:
            return step
        scale = step
    return scale
