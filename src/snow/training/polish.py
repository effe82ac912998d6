"""Fit the classifier of an extended task to the pictures that are there, unless left-out ones speak against it.

Shape letters:
    n     pictures
    D, R  width of the source's final features, and directions that the statistics keep
    C     classes, of which the first are those that the method learned
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.data import Pictures, eval_transform
from snow.inference.familiarity import Familiarity
from snow.inference.features import observe
from snow.methods import Extended
from snow.methods.extended import FLOOR, Gate
from snow.source import Source
from snow.training.loader import DeviceLoader, sequential_batches

BATCH = 32
FOLDS = 4
"""Parts of the pictures of each class, each of which judges a fit to the others."""

DRAWN = 100
"""Points drawn from the statistics of a class that has no picture here, at most."""

PENALTIES = (0.1, 0.01, 0.001)
"""Of the squared distance to the closed form, in directions of unit variance."""

ITERATIONS = 60


@dataclass(frozen=True)
class Polish:
    """What fitting the classifier changed.

    Attributes:
        kept: the fit was no worse on left-out pictures; otherwise the closed form stays.
        images: pictures that it was fitted to.
        before, after: share of left-out pictures, and of points of the classes without pictures, that are right.
    """

    kept: bool
    images: int
    before: float
    after: float


@dataclass(frozen=True)
class _Points:
    """Pictures, and points drawn from statistics, as the classifier sees them.

    Attributes:
        u: (n, R), in directions of unit variance.
        offset: (n, C), what the method itself adds to the log-probabilities of the classifier; 0 for drawn points.
        labels: (n,).
    """

    u: Tensor
    offset: Tensor
    labels: Tensor

    def __getitem__(self, index: Tensor) -> _Points:
        return _Points(self.u[index], self.offset[index], self.labels[index])

    def joined(self, other: _Points) -> _Points:
        pairs = ((self.u, other.u), (self.offset, other.offset), (self.labels, other.labels))
        return _Points(*(torch.cat(pair) for pair in pairs))

    def logits(self, weight: Tensor, bias: Tensor, learned: int) -> Tensor:
        """Answer as `Extended` does, with a classifier (C, R), (C,): (n, C)."""
        scores = F.linear(self.u, weight, bias).log_softmax(1)
        return self.offset + torch.cat([scores[:, :learned].clamp(min=FLOOR), scores[:, learned:]], 1)

    @property
    def shares(self) -> Tensor:
        """Weigh the points so that all classes count alike: (n,), with a sum of 1."""
        share = 1 / self.labels.bincount().clamp(min=1)[self.labels].float()
        return share / share.sum()


def polish(source: Source, method: Extended, statistics: Familiarity, pictures: Pictures) -> Polish:
    """Fit the classifier of an extended task to pictures, starting from its closed form.

    Classes without a picture here are held in place by points drawn from their statistics. How far the fit may go from
    the closed form is decided by pictures left out in turn; if all fits get more of these wrong, nothing changes.

    Args:
        method: its classifier `after` is replaced where the fit is kept.
        statistics: of all its classes, in their order.
        pictures: n pictures with labels (n, 1), at least one.
    """
    real = _seen(source, method, statistics, pictures)
    absent = [number for number in range(len(statistics.counts)) if not (real.labels == number).any()]
    drawn, fresh = (_drawn(statistics, absent, seed) for seed in (0, 1))
    start, learned, fold = _closed_form(statistics), len(method.kept), _folds(real.labels)
    judged = real.joined(fresh)
    before = _quality(judged, judged.logits(*start, learned))
    found = []
    for penalty in PENALTIES:
        fitted = _fit(real.joined(drawn), start, learned, penalty)
        logits = judged.logits(*fitted, learned)
        for number in range(FOLDS):
            others = _fit(real[fold != number].joined(drawn), start, learned, penalty)
            left_out = (fold == number).nonzero().flatten()
            logits[left_out] = real[left_out].logits(*others, learned)
        found.append((_quality(judged, logits), fitted))
    after, fitted = max(found, key=lambda entry: entry[0])
    kept = after[0] >= before[0] and len(real.labels) >= 2 * FOLDS
    if kept:
        gate = gate_in(statistics, *fitted)
        method.after_weight.copy_(gate.weight)
        method.after_bias.copy_(gate.bias)
    return Polish(kept, len(real.labels), before[0], after[0] if kept else before[0])


def _quality(points: _Points, logits: Tensor) -> tuple[float, float]:
    """Measure answers: the share that is right, then minus the log-loss; all classes count alike."""
    right = (logits.argmax(1) == points.labels).float()
    losses = F.cross_entropy(logits, points.labels, reduction="none")
    return round(float(right @ points.shares), 6), -float(losses @ points.shares)


def gate_in(statistics: Familiarity, weight: Tensor, bias: Tensor) -> Gate:
    """Write a classifier in directions of unit variance, (C, R), (C,), for final features of unit length."""
    full = (weight @ statistics.root) @ statistics.basis.float() * statistics.gain
    return Gate(full, bias - full @ statistics.centre)


def _closed_form(statistics: Familiarity) -> tuple[Tensor, Tensor]:
    """Linear discriminants in directions of unit variance: (C, R), (C,)."""
    means = statistics.means @ statistics.root.T
    return means, -0.5 * means.square().sum(1)


@torch.no_grad()
def _seen(source: Source, method: Extended, statistics: Familiarity, pictures: Pictures) -> _Points:
    """Pass pictures through the source and the method."""
    cropped = pictures.with_transform(eval_transform(source.preprocessing))
    loader = DeviceLoader(cropped, sequential_batches(range(len(pictures)), BATCH), 0, torch.device("cpu"))
    u, offset, learned = [], [], len(method.kept)
    for images, _ in loader:
        features = observe(source, [method], images)
        final = F.normalize(features.final.float(), dim=1)
        scores = F.linear(final, method.after_weight, method.after_bias).log_softmax(1)
        scores = torch.cat([scores[:, :learned].clamp(min=FLOOR), scores[:, learned:]], 1)
        offset.append(method(features).float() - scores)
        z = ((final - statistics.centre) * statistics.gain) @ statistics.basis.float().T
        u.append(z @ statistics.root.T)
    return _Points(torch.cat(u), torch.cat(offset), pictures.labels[:, 0])


def _drawn(statistics: Familiarity, classes: list[int], seed: int) -> _Points:
    """Draw points of classes from their statistics: normal, around the mean, with the shared covariance."""
    generator = torch.Generator().manual_seed(seed)
    rank, count = statistics.means.shape[1], len(statistics.counts)
    numbers = torch.tensor(classes, dtype=torch.int64)
    labels = numbers.repeat_interleave(statistics.counts[numbers].clamp(max=DRAWN))
    covariance = statistics.scatter / statistics.counts.sum() + 1e-4 * torch.eye(rank)
    noise = torch.randn(len(labels), rank, generator=generator) @ torch.linalg.cholesky(covariance).T
    z = statistics.means[labels] + noise
    return _Points(z @ statistics.root.T, torch.zeros(len(labels), count), labels)


def _folds(labels: Tensor) -> Tensor:
    """Number the folds of pictures, each class in turn: (n,) -> (n,) in 0..FOLDS - 1."""
    place = torch.zeros_like(labels)
    for number in labels.unique():
        own = labels == number
        place[own] = torch.arange(int(own.sum()))
    return place % FOLDS


def _fit(points: _Points, start: tuple[Tensor, Tensor], learned: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Minimise log-loss + penalty * |change|²: (C, R), (C,)."""
    weight, bias = (value.clone().requires_grad_() for value in start)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        change = (weight - start[0]).square().sum() + (bias - start[1]).square().sum()
        losses = F.cross_entropy(points.logits(weight, bias, learned), points.labels, reduction="none")
        loss = losses @ points.shares + penalty * change
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
