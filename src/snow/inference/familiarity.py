"""How much a picture resembles those that a task was trained on, from the source's final features.

A task keeps statistics of its training pictures: the mean of each class, and how pictures scatter around it. A picture
that no class explains is far from all means (Lee et al., NeurIPS 2018), or from all training pictures (Sun et al., ICML
2022); held-out classes decide which of the two is asked.

Shape letters:
    n, B  pictures
    D     width of the source's final features
    R     directions that are kept
    K     clusters: the classes, or groups of pictures with alike labels
    m     training pictures that are kept as neighbours
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.kinds.scores import auroc

MAX_PICTURES = 4096
"""Training pictures that the statistics are made of, at most."""

RANK = 128
MOST_NEIGHBOURS = 1024
NEAREST = 5
SHRINKAGE = 0.3
"""Weight of the identity in the covariance of standardised features, as in `snow.delta.discriminants`."""

FOLDS = 5
OUTSIDE = 1.0
"""Weight of the distance outside of the basis."""

QUANTILES = 201
"""Of the scores of pictures that the statistics were not made of."""


@dataclass(frozen=True)
class Familiarity:
    """Statistics of a task's training pictures.

        x = (final - centre) * gain         standardised within clusters
        z = basis x                         R directions; the rest of x counts as one direction for all
        gaussian:    score = -min over k of |root (z - means_k)|² - |x - basis' z|² / rest
        neighbours:  score = -distance of root z, at unit length, to the `NEAREST`-th training picture

    Attributes:
        centre, gain: (D,).
        basis: (R, D), orthonormal rows.
        means: (K, R), of each cluster.
        counts: (K,), pictures of each cluster.
        scatter: (R, R), sum over pictures of (z - mean)(z - mean)'.
        rest: (), variance of x outside of the basis.
        quantiles: (Q,), ascending scores of held-out pictures of the task.
        neighbours: (m, R), training pictures at unit length; (0, R) if distances to means are used.
    """

    centre: Tensor
    gain: Tensor
    basis: Tensor
    means: Tensor
    counts: Tensor
    scatter: Tensor
    rest: Tensor
    quantiles: Tensor
    neighbours: Tensor

    @classmethod
    def fit(cls, final: Tensor, cluster: Tensor, seed: int = 0) -> Self | None:
        """Fit the statistics: (n, D), (n,) -> statistics; None where there are too few pictures.

        Args:
            cluster: number of each picture's cluster, -1 for none.
            seed: chooses the pictures where there are more than `MAX_PICTURES`.
        """
        final, cluster = final[cluster >= 0].float(), cluster[cluster >= 0]
        order = torch.randperm(len(final), generator=torch.Generator().manual_seed(seed))[:MAX_PICTURES]
        final, cluster = final[order], cluster[order].unique(return_inverse=True)[1]
        if len(final) < 2 * FOLDS or not final.isfinite().all():
            return None
        frame = cls._frame(final, cluster)
        x = frame._standardised(final)
        z = x @ frame.basis.T
        outside = _outside(x, z)
        frame = replace(frame, rest=(outside.mean() / max(1, x.shape[1] - z.shape[1])).clamp(min=1e-6))
        points = Points(z, outside)
        use_neighbours = _prefers_neighbours(frame, points, cluster)
        scores, fold = torch.empty(len(z)), torch.arange(len(z)) % FOLDS
        for number in range(FOLDS):
            inside, asked = fold != number, fold == number
            scores[asked] = frame._with_clusters(points.rows(inside), cluster[inside], use_neighbours)._score(
                points.rows(asked)
            )
        quantiles = torch.quantile(scores.double(), torch.linspace(0, 1, QUANTILES, dtype=torch.float64)).float()
        return replace(frame._with_clusters(points, cluster, use_neighbours), quantiles=quantiles)

    @classmethod
    def _frame(cls, final: Tensor, cluster: Tensor) -> Self:
        """Fit centre, gain and basis."""
        counts = cluster.bincount()
        sums = torch.zeros(len(counts), final.shape[1]).index_add_(0, cluster, final)
        residuals = final - (sums / counts[:, None])[cluster]
        std = residuals.square().mean(0).sqrt()
        floor = 0.1 * std.mean()
        gain = 1 / std.clamp(min=floor) if floor > 0 else torch.ones_like(std)
        centre = final.mean(0)
        basis = _basis((final - centre) * gain)
        empty = basis.new_zeros(0, len(basis))
        scatter = basis.new_zeros(len(basis), len(basis))
        return cls(centre, gain, basis, empty, counts[:0], scatter, torch.ones(()), torch.zeros(QUANTILES), empty)

    def _with_clusters(self, points: Points, cluster: Tensor, use_neighbours: bool) -> Self:
        """Fit means and scatter in this frame: n points, (n,) -> statistics."""
        cluster = cluster.unique(return_inverse=True)[1]
        counts = cluster.bincount()
        means = points.z.new_zeros(len(counts), points.z.shape[1]).index_add_(0, cluster, points.z) / counts[:, None]
        residuals = points.z - means[cluster]
        fitted = replace(self, means=means, counts=counts, scatter=residuals.T @ residuals)
        if not use_neighbours:
            return fitted
        return replace(fitted, neighbours=_unit(points.z @ fitted._root().T)[:MOST_NEIGHBOURS])

    def scores(self, final: Tensor) -> Tensor:
        """Score pictures: (B, D) -> (B,); higher is more familiar."""
        x = self._standardised(final)
        z = x @ self.basis.float().T
        return self._score(Points(z, _outside(x, z)))

    def _score(self, points: Points) -> Tensor:
        root = self._root()
        if len(self.neighbours):
            distances = torch.cdist(_unit(points.z @ root.T), self.neighbours.float())
            return -distances.topk(min(NEAREST, len(self.neighbours)), largest=False).values[:, -1]
        distances = torch.cdist(points.z @ root.T, self.means.float() @ root.T).square().amin(1)
        return -distances - OUTSIDE * points.outside / self.rest

    def known(self, final: Tensor) -> Tensor:
        """Tell how familiar pictures are: (B, D) -> (B,) in 0..1.

        It is the share of held-out pictures of the task that are less familiar, so that those of the task itself are
        spread evenly over 0..1. Below all of them it falls to 0 with the distance.
        """
        scores, quantiles = self.scores(final), self.quantiles
        last = len(quantiles) - 1
        place = torch.searchsorted(quantiles, scores.contiguous()).clamp(1, last)
        low, high = quantiles[place - 1], quantiles[place]
        share = (place - 1 + ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)) / last
        width = (quantiles[last // 2] - quantiles[0]).clamp(min=1e-12)
        tail = torch.exp((scores - quantiles[0]).clamp(max=0) / width) / (2 * last)
        return torch.where(scores < quantiles[0], tail, share.clamp(min=1 / (2 * last)))

    def to(self, device: torch.device) -> Self:
        """Move all tensors to a device."""
        return type(self)(**{name: value.to(device) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Read what `tensors` gave.

        Raises:
            DamagedError: one is missing, or they do not fit together.
        """
        names = [entry.name for entry in fields(cls)]
        if sorted(tensors) != sorted(names):
            raise DamagedError("the statistics of training pictures are damaged: tensors are missing or unknown")
        known = cls(**tensors)
        (rank, width), clusters = known.basis.shape, len(known.counts)
        shapes = {
            "centre": (width,),
            "gain": (width,),
            "means": (clusters, rank),
            "scatter": (rank, rank),
            "rest": (),
            "quantiles": (QUANTILES,),
            "neighbours": (len(known.neighbours), rank),
        }
        wrong = [name for name, shape in shapes.items() if tuple(tensors[name].shape) != shape]
        if wrong or not clusters:
            raise DamagedError(f"the statistics of training pictures are damaged: {', '.join(wrong)} has a wrong shape")
        return known

    def _standardised(self, final: Tensor) -> Tensor:
        return (final.float() - self.centre) * self.gain

    def _root(self) -> Tensor:
        """Compute the inverse Cholesky factor of the shrunk covariance within clusters: (R, R)."""
        covariance = self.scatter / self.counts.sum() * (1 - SHRINKAGE)
        covariance = covariance + SHRINKAGE * torch.eye(len(covariance), device=covariance.device)
        factor = torch.linalg.cholesky(covariance)
        return torch.linalg.solve_triangular(factor, torch.eye(len(factor), device=factor.device), upper=False)


class Points(NamedTuple):
    """Pictures in a frame: z (n, R), and the squared length (n,) of what lies outside of the basis."""

    z: Tensor
    outside: Tensor

    def rows(self, mask: Tensor) -> Points:
        return Points(self.z[mask], self.outside[mask])


def _outside(x: Tensor, z: Tensor) -> Tensor:
    return (x.square().sum(1) - z.square().sum(1)).clamp(min=0)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def _basis(x: Tensor) -> Tensor:
    """Find the directions of most variance: (n, D) -> (R, D), orthonormal rows."""
    n, width = x.shape
    rank = min(RANK, width, max(1, n // 2))
    if n < width:  # the smaller of the two products has the same eigenvalues
        strength, vectors = torch.linalg.eigh(x @ x.T)
        rows = (vectors[:, -rank:].T @ x) / strength[-rank:].clamp(min=1e-12).sqrt()[:, None]
        return torch.linalg.qr(rows.T).Q.T.contiguous()
    return torch.linalg.eigh(x.T @ x)[1][:, -rank:].T.contiguous()


def _prefers_neighbours(frame: Familiarity, points: Points, cluster: Tensor) -> bool:
    """Ask held-out classes which score tells the unknown from the known better.

    In each of `FOLDS` rounds every `FOLDS`-th class is left out, and every `FOLDS`-th picture of the others.
    """
    rounds = min(FOLDS, int(cluster.max()) + 1)
    held_out = torch.arange(len(cluster)) % FOLDS == 0
    areas = torch.zeros(2)
    for number in range(rounds if rounds > 1 else 0):
        own = cluster % rounds != number
        train, asked = own & ~held_out, held_out | ~own
        for column, neighbours in enumerate((False, True)):
            model = frame._with_clusters(points.rows(train), cluster[train], neighbours)
            areas[column] += auroc(model._score(points.rows(asked)).double(), own[asked])
    return bool(areas[1] > areas[0])
