"""How likely labels are, given the answers of a regression: what differs from kind to kind of label in a start.

Shape letters beside those of the room: r rows that are judged. Labels are numbers of classes (r,), or targets (r, C) in
the units of outputs, NaN where nothing is known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.functional import one_hot

from snow.delta.scaling import Scaling, best_scale, log_loss, robust_scale, sigmoid_fit
from snow.subscribe.statistics import channel_score

STRATUM = 5
"""Pictures with close numbers that are dealt out to folds together."""


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


class Bernoulli(Likelihood):
    """Any of C tags, or of the steps to a grade, each on (1) or off (0): `sigmoid(outputs)`.

    Each has a factor and an offset of its own.
    """

    def can_fit(self, labels: Tensor) -> bool:
        return bool(((labels == 1).any(0) & (labels == 0).any(0)).any())

    def strata(self, labels: Tensor) -> Tensor:
        """Put pictures with the same rarest tag together; those without any are the last."""
        on = labels == 1
        rarest = torch.where(on, on.sum(0), len(labels) + 1).argmin(1)
        return torch.where(on.any(1), rarest, labels.shape[1])

    def targets(self, labels: Tensor, outputs: int) -> Tensor:
        """Let cells that are not known be the mean of those that are, which count for the more."""
        known = labels.isfinite()
        share = known.float().mean(0).clamp(min=1 / max(1, len(labels)))
        mean = labels.nanmean(0).nan_to_num(0.5)
        return torch.where(known, mean + (labels - mean) / share, mean)

    def scores(self, values: Tensor, labels: Tensor, outputs: int) -> Tensor:
        """Compute `channel_score` of all tags at once."""
        share = labels.isfinite().float().mean(0)
        x, y = values - values.mean(0), self.targets(labels, outputs)
        y = y - y.mean(0)
        variance = x.square().sum(0) * (y.square().sum(0) * share)[:, None]
        r2 = (y.T @ x).square() / variance.clamp(min=1e-12)
        return (r2 / (1 - r2).clamp(min=1e-6)).mean(0)

    def observations(self, labels: Tensor) -> int:
        return int(labels.isfinite().sum())

    def measure(self, answers: Tensor, labels: Tensor) -> tuple[float, float]:
        factor, offset = self.scaling(answers, labels)
        known, logits = labels.isfinite(), answers * factor + offset
        loss = F.binary_cross_entropy_with_logits(logits[known], labels[known])
        return float(loss), self._right(logits, labels)

    def scaling(self, answers: Tensor, labels: Tensor) -> Scaling:
        return sigmoid_fit(answers, labels)

    def losses(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The loss of a row is the mean over its known tags."""
        known, logits = labels.isfinite(), outputs * best_scale(*self._cells(outputs, labels))
        losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
        return (losses * known).sum(1) / known.sum(1).clamp(min=1), self._right(outputs, labels)

    def factor(self, outputs: Tensor, labels: Tensor) -> float:
        return robust_scale(*self._cells(outputs, labels))

    def _cells(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """List the known cells as pictures of two classes: logits (k, 2), labels (k,)."""
        known = labels.isfinite()
        on = outputs[known]
        return torch.stack([torch.zeros_like(on), on], 1), labels[known].long()

    def _right(self, logits: Tensor, labels: Tensor) -> float:
        """Compute the share of known tags that are right at a threshold of 0.5."""
        known = labels.isfinite()
        return float(((logits > 0) == (labels > 0.5))[known].float().mean())


CATEGORICAL, BERNOULLI, NORMAL = Categorical(), Bernoulli(), Normal()
