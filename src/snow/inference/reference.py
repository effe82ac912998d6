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
from math import erf, log, sqrt
from typing import NamedTuple, Self

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.appearance import FIGURES
from snow.inference.windows import OVERALL, SIMULATED, SIZES, chance_limits, cluster_centres, draw_window, variance

SHRINKAGE = 0.05
"""Weight of the diagonal in the covariance."""

LEAST_DEVIATION = 0.05
"""Added to that of pictures: smaller differences do not count where all pictures of training are alike."""

MARGIN = 0.25
"""Difference of means, in standard deviations, that another sample of the same pictures may have beside chance."""


class Traits(NamedTuple):
    """What the comparison of a window needs of a picture.

    Attributes:
        reference: of the task that saw it.
        cluster: that it is nearest to.
        features: (R,), in the task's directions.
        appearance: (A,), see `snow.inference.appearance`.
    """

    reference: Reference
    cluster: int
    features: Tensor
    appearance: Tensor


@dataclass(frozen=True)
class Space:
    """One group of figures of the training pictures.

    Attributes:
        centre: (K, d), mean of the pictures that are nearest to each cluster.
        root: (d, d), inverse Cholesky factor of the covariance around it.
        limits: (len(SIZES),), that chance exceeds in windows of each size as rarely as is wanted.
    """

    centre: Tensor
    root: Tensor
    limits: Tensor

    def difference(self, mean: Tensor, counts: Tensor, shares: Tensor, size: int) -> float:
        """Compare the mean of a window with what its clusters explain: (d,), (K,), (K,) -> 0..1.

        It is 0 up to the limit. Above, it is the distance of Kolmogorov and Smirnov between two normal distributions
        whose means differ by what is beyond the limit.

        Args:
            counts: pictures of training that are nearest to each cluster.
            shares: of each cluster in the window.
            size: pictures of the window.
        """
        if size < SIZES[0]:
            return 0.0
        size = min(size, SIZES[-1])
        squared = float((self.root @ (mean - shares @ self.centre)).square().sum())
        beyond = squared - self._limit(size) * float(variance(counts, shares, size)) - MARGIN**2
        return erf(sqrt(max(0.0, beyond)) / (2 * sqrt(2)))

    def _limit(self, size: int) -> float:
        """Interpolate the limit between two sizes."""
        after = next(place for place, known in enumerate(SIZES) if known >= size)
        before = max(0, after - 1)
        if before == after:
            return float(self.limits[after])
        part = log(size / SIZES[before]) / log(SIZES[after] / SIZES[before])
        return float(self.limits[before] + part * (self.limits[after] - self.limits[before]))


@dataclass(frozen=True)
class Reference:
    """Statistics of a task's training pictures that windows of other pictures are compared with.

    Attributes:
        counts: (K,), pictures of training that are nearest to each cluster.
        features, appearance: two groups of figures.
    """

    counts: Tensor
    features: Space
    appearance: Space

    @classmethod
    def fit(cls, features: Tensor, appearance: Tensor, nearest: Tensor, cluster: Tensor, seed: int = 0) -> Self:
        """Fit the statistics to pictures: (N, R), (N, A), (N,), (N,) -> statistics.

        Args:
            nearest: cluster that each is nearest to, of means without the picture itself.
            cluster: that it belongs to.
            seed: of the simulated windows.
        """
        clusters = int(cluster.max()) + 1
        generator = torch.Generator().manual_seed(seed)
        counts = nearest.bincount(minlength=clusters)
        windows = [draw_window(cluster, is_mixed, generator) for is_mixed in (False, True) for _ in range(SIMULATED)]
        spaces = [_fitted(values, nearest, clusters) for values in (features, appearance)]
        whitened = [values @ space.root.T for values, space in zip((features, appearance), spaces, strict=True)]
        limits = chance_limits(whitened, nearest, clusters, windows, generator)
        return cls(counts, *(replace(space, limits=row) for space, row in zip(spaces, limits, strict=True)))

    def differences(self, traits: Sequence[Traits]) -> tuple[float, float]:
        """Compare a window with training: n pictures -> difference of features, of appearance; 0..1 each."""
        clusters = torch.tensor([each.cluster for each in traits])
        rows = (torch.stack([each.features for each in traits]), torch.stack([each.appearance for each in traits]))
        return self.differences_of(clusters, *rows)

    def differences_of(self, clusters: Tensor, features: Tensor, appearance: Tensor) -> tuple[float, float]:
        """As `differences`: (n,), (n, R), (n, A)."""
        size = len(clusters)
        shares = clusters.bincount(minlength=len(self.counts)) / max(1, size)
        groups = ((self.features, features), (self.appearance, appearance))
        first, second = (
            space.difference(rows.float().mean(0), self.counts, shares, size) if size else 0.0 for space, rows in groups
        )
        return first, second

    def updated(self, nearest: Tensor, features: Tensor, appearance: Tensor, clusters: int) -> Self:
        """Add pictures, perhaps of new clusters: (n,), (n, R), (n, A). What chance does stays as it was.

        Args:
            nearest: cluster that each is nearest to now.
            clusters: number of clusters now.
        """
        added = nearest.bincount(minlength=clusters)
        counts = torch.cat([self.counts, self.counts.new_zeros(clusters - len(self.counts))])
        spaces = []
        for space, rows in ((self.features, features), (self.appearance, appearance)):
            centre = torch.cat([space.centre, space.centre.new_zeros(clusters - len(space.centre), rows.shape[1])])
            weight = torch.where(torch.arange(clusters) < len(space.centre), counts + OVERALL, 0)
            sums = (centre * weight[:, None]).index_add(0, nearest, rows.float())
            spaces.append(replace(space, centre=sums / (weight + added).clamp(min=1)[:, None]))
        return replace(self, counts=counts + added, features=spaces[0], appearance=spaces[1])

    def selected(self, clusters: Sequence[int]) -> Self:
        """Keep some clusters only."""
        index = torch.as_tensor(clusters)
        first, second = (replace(space, centre=space.centre[index]) for space in (self.features, self.appearance))
        return replace(self, counts=self.counts[index], features=first, appearance=second)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        spaces = {"features": self.features, "appearance": self.appearance}
        parts = {f"{name}.{key}": value for name, space in spaces.items() for key, value in vars(space).items()}
        return {"counts": self.counts, **parts}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], clusters: int, rank: int) -> Self:
        """Read what `tensors` gave.

        Args:
            clusters, rank: K and R of the task.

        Raises:
            DamagedError: one is missing, or they do not fit together.
        """
        shapes: dict[str, tuple[int, ...]] = {"counts": (clusters,)}
        for name, width in (("features", rank), ("appearance", FIGURES)):
            shapes |= {f"{name}.centre": (clusters, width), f"{name}.root": (width, width)}
            shapes[f"{name}.limits"] = (len(SIZES),)
        if {name: tuple(value.shape) for name, value in tensors.items()} != shapes:
            raise DamagedError("the reference of training pictures is damaged: a tensor is missing or of a wrong shape")
        spaces = (
            Space(*(tensors[f"{name}.{key}"] for key in ("centre", "root", "limits")))
            for name in ("features", "appearance")
        )
        return cls(tensors["counts"], *spaces)


def _fitted(values: Tensor, nearest: Tensor, clusters: int) -> Space:
    """Fit all but the limits of one group of figures: (N, d), (N,)."""
    centre = cluster_centres(values, nearest, clusters)
    residuals = values - centre[nearest]
    covariance = residuals.T @ residuals / len(residuals)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance.diagonal().diag()
    factor = torch.linalg.cholesky(shrunk + LEAST_DEVIATION**2 * torch.eye(len(shrunk)))
    root = torch.linalg.solve_triangular(factor, torch.eye(len(factor)), upper=False)
    return Space(centre, root, torch.zeros(len(SIZES)))
