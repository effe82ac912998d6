"""Windows of training pictures: how far chance alone takes their means from what their clusters explain.

Shape letters:
    n, N  pictures of a window, of training
    K     clusters
    d     figures of a picture
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FALSE_ALARMS = 0.01
"""Share of windows of the same kind of pictures that may count as changed."""

SIZES = (10, 20, 50, 100, 200, 500)
"""Pictures of the windows whose chance is simulated. Fewer than the first say nothing; more count as the last."""

SIMULATED = 100
"""Windows of each size and mix of classes."""

OVERALL = 5
"""Pictures of the mean of all that each cluster's mean gets."""


def variance(counts: Tensor, shares: Tensor, size: Tensor | int) -> Tensor:
    """Compute the variance of a window's mean minus that of its clusters: (..., K) -> (...).

    For pictures of variance 1 it is

        variance = 1 / n + sum over k of shares_k² / counts_k
    """
    return 1 / size + (shares.square() / counts.clamp(min=1)).sum(-1)


def draw_window(cluster: Tensor, is_mixed: bool, generator: torch.Generator) -> Tensor:
    """Draw a window of the largest size, with replacement: (N,) -> (n,) indices of pictures.

    Args:
        is_mixed: each cluster gets a random share, far from that in training.
    """
    weights = torch.ones(len(cluster))
    if is_mixed:
        counts = cluster.bincount().clamp(min=1)
        weights = (torch.randn(len(counts), generator=generator).square() / counts)[cluster] + 1e-12
    return torch.multinomial(weights, SIZES[-1], replacement=True, generator=generator)


def cluster_centres(values: Tensor, nearest: Tensor, clusters: int) -> Tensor:
    """Compute the mean of the pictures nearest to each cluster, drawn towards that of all: (N, d), (N,) -> (K, d)."""
    counts = nearest.bincount(minlength=clusters)
    sums = torch.zeros(clusters, values.shape[1]).index_add_(0, nearest, values)
    return (sums + OVERALL * values.mean(0)) / (counts + OVERALL)[:, None]


def chance_limits(
    groups: Sequence[Tensor], nearest: Tensor, clusters: int, windows: Sequence[Tensor], generator: torch.Generator
) -> list[Tensor]:
    """Simulate windows of training pictures beside another sample of these (Efron's bootstrap).

    The statistic of each window is |mean - what its clusters explain|² / `variance`. Its upper quantile is that of the
    scaled chi-squared distribution with the same mean and variance (Wilson & Hilferty, 1931); the larger one counts of
    windows with the classes as in training, and with other shares of them.

    The covariance is that of the pictures whose windows are simulated. Others lie further outside: by N / (N - d - 1),
    the mean of Hotelling's T² over that of the chi-squared distribution.

    Args:
        groups: whitened figures of each group, (N, d).
        windows: (n,) indices of pictures, half of them of other shares.

    Returns:
        For each group (len(SIZES),).
    """
    values, widths, total = torch.cat(list(groups), 1), [part.shape[1] for part in groups], len(nearest)
    statistics = torch.empty(len(windows), len(SIZES), len(groups))
    sizes = torch.tensor(SIZES)
    for row, window in enumerate(windows):
        sample = torch.randint(total, (total,), generator=generator)
        near = nearest[sample]
        centre, counts = cluster_centres(values[sample], near, clusters), near.bincount(minlength=clusters)
        shares = torch.stack([nearest[window[:size]].bincount(minlength=clusters) / size for size in SIZES])
        means = values[window].cumsum(0)[sizes - 1] / sizes[:, None]
        squared = (means - shares @ centre).square() / variance(counts, shares, sizes)[:, None]
        statistics[row] = torch.stack([part.sum(1) for part in squared.split(widths, 1)], 1)
    halves = statistics.view(2, -1, len(SIZES), len(groups))
    limits = _upper_quantile(halves.mean(1), halves.var(1)).amax(0)
    return [limits[:, place] * total / max(1, total - width - 1) for place, width in enumerate(widths)]


def _upper_quantile(mean: Tensor, spread: Tensor) -> Tensor:
    """Compute the quantile of a scaled chi-squared distribution that half of `FALSE_ALARMS` exceeds.

    There are two groups of figures, and each has half of the false alarms.
    """
    degrees = 2 * mean.square() / spread.clamp(min=1e-12)
    degrees = degrees.clamp(min=1)  # 0 where all pictures are alike
    normal = torch.special.ndtri(torch.tensor(1 - FALSE_ALARMS / 2))
    part = 2 / (9 * degrees)
    return mean * (1 - part + normal * part.sqrt()) ** 3
