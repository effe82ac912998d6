"""The training pictures as a reference: does the mean of a window of pictures differ from theirs by more than chance?

A picture is compared with those of training that are nearest to the same cluster. So a window may hold more pictures
of some classes than training did, and does not differ for that.

Shape letters:
    n, N  pictures of a window, of training
    K     clusters
    d     figures of a picture: R directions of its features, or those of its appearance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import erf, sqrt
from typing import NamedTuple, Self

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.appearance import FIGURES
from snow.inference.windows import (
    MIXES,
    OVERALL,
    SIZES,
    at_size,
    chance_distances,
    chance_limits,
    class_limits,
    cluster_centres,
    concentration,
    draw_windows,
    fold_of,
    limit_at,
    picture_statistics,
    variance,
)

SHRINKAGE = 0.05
"""Weight of the diagonal in the covariance."""

LEAST_DEVIATION = 0.05
"""Added to that of pictures: smaller differences do not count where all pictures of training are alike."""

LEAST_OWN = 0.2
"""Share of the pictures of a class that count as nearest to its own cluster, at least."""

MARGIN = 0.25
"""Difference of means, in standard deviations, that another sample of the same pictures may have beside chance."""


class Traits(NamedTuple):
    """What the comparison of a window needs of a picture.

    Attributes:
        reference: of the task that saw it.
        cluster: that it is nearest to.
        features: (R,), in the task's directions.
        appearance: (A,), see `snow.inference.appearance`.
        familiar: its familiarity, where `Prediction.known` has the task's confidence in it as well.
    """

    reference: Reference
    cluster: int
    features: Tensor
    appearance: Tensor
    familiar: float | None = None


class Differences(NamedTuple):
    """How a window differs from training.

    Attributes:
        content: difference of the means of features, beyond chance, 0..1.
        appearance: of those of the appearance.
        distance: that chance and the mix of clusters may give familiarities.
    """

    content: float
    appearance: float
    distance: float


class Added(NamedTuple):
    """Pictures that a task learns later.

    Attributes:
        labels: (n,), class of each, whose number is that of its cluster.
        nearest: (n,), cluster that each is nearest to now.
        left_out: (n,), the same, of means without the picture itself.
        features, appearance: (n, R), (n, A).
    """

    labels: Tensor
    nearest: Tensor
    left_out: Tensor
    features: Tensor
    appearance: Tensor


@dataclass(frozen=True)
class Space:
    """One group of figures of the training pictures.

    Attributes:
        centre: (K, d), mean of the pictures that are nearest to each cluster.
        root: (d, d), inverse Cholesky factor of the covariance around it.
        limits: (mixes, len(SIZES)), that chance exceeds in windows of each mix and size as rarely as is wanted.
        factors: (K, len(SIZES)), of the limits of windows of each cluster; 1 for those of the first training, and None
            if no pictures were added since.
    """

    centre: Tensor
    root: Tensor
    limits: Tensor
    factors: Tensor | None = None

    def difference(self, mean: Tensor, seen: Tensor, counts: Tensor, concentrations: Tensor) -> float:
        """Compare the mean of a window with what its clusters explain: (d,), (K,), (K,), (mixes,) -> 0..1.

        It is 0 up to the limit. Above, it is the distance of Kolmogorov and Smirnov between two normal distributions
        whose means differ by what is beyond the limit.

        Args:
            seen, counts: pictures of the window and of training that are nearest to each cluster.
            concentrations: of the mixes.
        """
        size = int(seen.sum())
        if size < SIZES[0]:
            return 0.0
        shares = seen / size
        squared = float((self.root @ (mean - shares @ self.centre)).square().sum())
        chance = limit_at(self.limits, concentrations, seen) * float(variance(counts, shares, min(size, SIZES[-1])))
        if self.factors is not None:
            chance *= at_size(shares @ self.factors, size)
        beyond = squared - chance - MARGIN**2
        return erf(sqrt(max(0.0, beyond)) / (2 * sqrt(2)))

    def widened(self, rows: Tensor, labels: Tensor, nearest: Tensor, counts: Tensor, concentrations: Tensor) -> Tensor:
        """Widen the limits of windows of the classes of added pictures to what chance does to these: -> factors.

        Args:
            rows: (n, d), of the pictures.
            labels: (n,), class of each, whose number is that of its cluster.
            nearest: (n,), cluster that each is nearest to, of means without the picture itself.
            counts: (K,), pictures that are nearest to each cluster, with the added ones.
        """
        factors = torch.ones(len(counts), len(SIZES))
        if self.factors is not None:
            factors[: len(self.factors)] = self.factors
        for label in labels.unique().tolist():
            own, near = rows[labels == label], nearest[labels == label]
            if len(own) < 2:
                continue
            shares = near.bincount(minlength=len(counts)) / len(near)
            sizes = torch.tensor(SIZES)
            limits = class_limits((own - self.centre[near]) @ self.root.T, variance(counts, shares, sizes))
            usual = torch.tensor([limit_at(self.limits, concentrations, shares * size) for size in SIZES])
            excess = (limits / usual - 1).clamp(min=0) / shares[label].clamp(min=LEAST_OWN)
            factors[label] = torch.maximum(factors[label], 1 + excess)
        return factors


@dataclass(frozen=True)
class Reference:
    """Statistics of a task's training pictures that windows of other pictures are compared with.

    Attributes:
        counts: (K,), pictures of training that are nearest to each cluster.
        concentrations: (mixes,), of the clusters in windows of each mix, ascending.
        distances: (mixes, len(SIZES)), that chance and the mix may give the familiarities of a window.
        features, appearance: two groups of figures.
    """

    counts: Tensor
    concentrations: Tensor
    distances: Tensor
    features: Space
    appearance: Space

    @classmethod
    def fit(
        cls, features: Tensor, appearance: Tensor, known: Tensor, nearest: Tensor, cluster: Tensor, seed: int = 0
    ) -> Self:
        """Fit the statistics to pictures: (N, R), (N, A), (N,), (N,), (N,) -> statistics.

        Args:
            known: familiarities by statistics without the picture itself.
            nearest: cluster that each is nearest to, of means without the picture itself.
            cluster: that it belongs to.
            seed: of the simulated windows.
        """
        clusters = int(cluster.max()) + 1
        generator = torch.Generator().manual_seed(seed)
        counts = nearest.bincount(minlength=clusters)
        windows = draw_windows(cluster, generator)
        spaces = [_fitted(values, nearest, clusters) for values in (features, appearance)]
        whitened = [values @ space.root.T for values, space in zip((features, appearance), spaces, strict=True)]
        left_out = [_left_out(values, nearest, clusters) for values in (features, appearance)]
        limits = chance_limits(whitened, nearest, clusters, windows, left_out, generator)
        first, second = (replace(space, limits=row) for space, row in zip(spaces, limits, strict=True))
        seen = torch.stack([row.bincount(minlength=clusters) for row in nearest[windows].flatten(0, 1)])
        concentrations = concentration(seen).view(len(MIXES), -1).mean(1).cummax(0).values
        return cls(counts, concentrations, chance_distances(known, windows), first, second)

    def differences(self, traits: Sequence[Traits]) -> Differences:
        """Compare a window of n pictures with training."""
        clusters = torch.tensor([each.cluster for each in traits])
        rows = (torch.stack([each.features for each in traits]), torch.stack([each.appearance for each in traits]))
        return self.differences_of(clusters, *rows)

    def differences_of(self, clusters: Tensor, features: Tensor, appearance: Tensor) -> Differences:
        """As `differences`: (n,), (n, R), (n, A). Of no pictures there is no difference."""
        seen = clusters.bincount(minlength=len(self.counts))
        groups = ((self.features, features), (self.appearance, appearance))
        first, second = (
            space.difference(rows.float().mean(0), seen, self.counts, self.concentrations) for space, rows in groups
        )
        return Differences(first, second, limit_at(self.distances, self.concentrations, seen))

    def updated(self, added: Added, clusters: int) -> Self:
        """Add pictures, perhaps of new clusters. What chance does to windows of the others stays as it was.

        Args:
            clusters: number of clusters now.
        """
        counts = torch.cat([self.counts, self.counts.new_zeros(clusters - len(self.counts))])
        total = counts + added.nearest.bincount(minlength=clusters)
        spaces = []
        for space, rows in ((self.features, added.features.float()), (self.appearance, added.appearance.float())):
            centre = torch.cat([space.centre, space.centre.new_zeros(clusters - len(space.centre), rows.shape[1])])
            weight = torch.where(torch.arange(clusters) < len(space.centre), counts + OVERALL, 0)
            sums = (centre * weight[:, None]).index_add(0, added.nearest, rows)
            weights = (weight + added.nearest.bincount(minlength=clusters)).clamp(min=1)
            moved = replace(space, centre=sums / weights[:, None])
            factors = moved.widened(rows, added.labels, added.left_out, total, self.concentrations)
            spaces.append(replace(moved, factors=factors))
        return replace(self, counts=total, features=spaces[0], appearance=spaces[1])

    def selected(self, clusters: Sequence[int]) -> Self:
        """Keep some clusters only."""
        index = torch.as_tensor(clusters)
        first, second = (
            replace(space, centre=space.centre[index], factors=None if space.factors is None else space.factors[index])
            for space in (self.features, self.appearance)
        )
        return replace(self, counts=self.counts[index], features=first, appearance=second)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        spaces = {"features": self.features, "appearance": self.appearance}
        parts = {
            f"{name}.{key}": value
            for name, space in spaces.items()
            for key, value in vars(space).items()
            if value is not None
        }
        own = {"counts": self.counts, "concentrations": self.concentrations, "distances": self.distances}
        return own | parts

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], clusters: int, rank: int) -> Self:
        """Read what `tensors` gave.

        Args:
            clusters, rank: K and R of the task.

        Raises:
            DamagedError: one is missing, or they do not fit together.
        """
        shapes: dict[str, tuple[int, ...]] = {"counts": (clusters,), "concentrations": (len(MIXES),)}
        shapes["distances"] = (len(MIXES), len(SIZES))
        for name, width in (("features", rank), ("appearance", FIGURES)):
            shapes |= {f"{name}.centre": (clusters, width), f"{name}.root": (width, width)}
            shapes[f"{name}.limits"] = (len(MIXES), len(SIZES))
            if f"{name}.factors" in tensors:
                shapes[f"{name}.factors"] = (clusters, len(SIZES))
        if {name: tuple(value.shape) for name, value in tensors.items()} != shapes:
            raise DamagedError("the reference of training pictures is damaged: a tensor is missing or of a wrong shape")
        features, appearance = (
            Space(*(tensors[f"{name}.{key}"] for key in ("centre", "root", "limits")), tensors.get(f"{name}.factors"))
            for name in ("features", "appearance")
        )
        return cls(tensors["counts"], tensors["concentrations"], tensors["distances"], features, appearance)


def _fitted(values: Tensor, nearest: Tensor, clusters: int) -> Space:
    """Fit all but the limits of one group of figures: (N, d), (N,)."""
    centre = cluster_centres(values, nearest, clusters)
    residuals = values - centre[nearest]
    covariance = residuals.T @ residuals / len(residuals)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance.diagonal().diag()
    factor = torch.linalg.cholesky(shrunk + LEAST_DEVIATION**2 * torch.eye(len(shrunk)))
    root = torch.linalg.solve_triangular(factor, torch.eye(len(factor)), upper=False).contiguous()
    return Space(centre, root, torch.zeros(len(MIXES), len(SIZES)))


def _left_out(values: Tensor, nearest: Tensor, clusters: int) -> float:
    """Compute how far pictures lie by statistics of the others, see `chance_limits`: (N, d), (N,).

    Args:
        nearest: cluster that each is nearest to, of means without the picture itself.
    """
    fold, total = fold_of(len(values)), 0.0
    for number in range(int(fold.max()) + 1):
        kept = fold != number
        space = _fitted(values[kept], nearest[kept], clusters)
        counts = nearest[kept].bincount(minlength=clusters)
        near, asked = nearest[~kept], values[~kept] @ space.root.T
        total += float(picture_statistics(asked, near, space.centre @ space.root.T, counts, [asked.shape[1]]).sum())
    return total / len(values)
