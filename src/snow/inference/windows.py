"""Windows of training pictures: how far chance alone takes their means from what their clusters explain.

Shape letters:
    n, N  pictures of a window, of training
    K     clusters
    d     figures of a picture
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FALSE_ALARMS = 0.01
"""Share of windows of the same kind of pictures that may count as changed."""

SIZES = (10, 20, 50, 100, 200, 500)
"""Pictures of the windows whose chance is simulated. Fewer than the first say nothing; more count as the last."""

SIMULATED = 100
"""Windows of each size and mix of clusters."""

MIXES = ("as in training", "other shares", "one cluster")
"""Mixes of the clusters in a window; shares are random, far from those in training."""

KOLMOGOROV = 2.72
"""The 0.99 quantile of Smirnov's distribution of the one-sided distance, in standard deviations above its mean."""

OVERALL = 5
"""Pictures of the mean of all that each cluster's mean gets."""

FOLDS = 5
"""Parts of pictures, each of which is judged by statistics of the others, at least."""

MOST_LEFT_OUT = 4096
"""Pictures that are left out once in all parts together, where that takes more than `FOLDS` parts."""


def fold_of(count: int) -> Tensor:
    """Number the parts of pictures that are judged by statistics of the others: -> (n,).

    Statistics of fewer pictures know less. So fewer pictures have more parts, up to one for each.
    """
    return torch.arange(count) % min(count, max(FOLDS, MOST_LEFT_OUT // max(1, count)))


def variance(counts: Tensor, shares: Tensor, size: Tensor | int) -> Tensor:
    """Compute the variance of a window's mean minus that of its clusters: (..., K) -> (...).

    For pictures of variance 1 it is

        variance = 1 / n + sum over k of shares_k² / counts_k
    """
    return 1 / size + (shares.square() / counts.clamp(min=1)).sum(-1)


def draw_windows(cluster: Tensor, generator: torch.Generator) -> Tensor:
    """Draw `SIMULATED` windows of the largest size of each mix, with replacement: (N,) -> (3, W, n) indices."""
    counts = cluster.bincount()
    windows = torch.empty(len(MIXES), SIMULATED, SIZES[-1], dtype=torch.int64)
    for row in range(SIMULATED):
        shares = torch.randn(len(counts), generator=generator).square() / counts.clamp(min=1)
        one = torch.randint(len(cluster), (1,), generator=generator)
        mixes = (torch.ones(len(cluster)), shares[cluster] + 1e-12, (cluster == cluster[one]).float())
        for place, weights in enumerate(mixes):
            windows[place, row] = torch.multinomial(weights, SIZES[-1], replacement=True, generator=generator)
    return windows


def cluster_centres(values: Tensor, nearest: Tensor, clusters: int) -> Tensor:
    """Compute the mean of the pictures nearest to each cluster, drawn towards that of all: (N, d), (N,) -> (K, d)."""
    counts = nearest.bincount(minlength=clusters)
    sums = torch.zeros(clusters, values.shape[1]).index_add_(0, nearest, values)
    return (sums + OVERALL * values.mean(0)) / (counts + OVERALL)[:, None]


def chance_limits(
    groups: Sequence[Tensor],
    nearest: Tensor,
    clusters: int,
    windows: Tensor,
    left_out: Sequence[float],
    generator: torch.Generator,
) -> list[Tensor]:
    """Simulate windows of training pictures beside another sample of these (Efron's bootstrap).

    The statistic of each window is |mean - what its clusters explain|² / `variance`. Its upper quantile is that of the
    scaled F distribution with the same mean and variance, see `upper_quantile`.

    The covariance is that of the pictures whose windows are simulated. Others lie further outside, as those tell that
    were left out of it.

    Args:
        groups: whitened figures of each group, (N, d).
        windows: (mixes, W, n) indices of pictures.
        left_out: for each group the mean of the statistic over pictures by statistics of the others, each picture a
            window.

    Returns:
        For each group (mixes, len(SIZES)).
    """
    values, widths, total = torch.cat(list(groups), 1), [part.shape[1] for part in groups], len(nearest)
    statistics = torch.empty(windows.shape[0] * windows.shape[1], len(SIZES), len(groups))
    sizes, single = torch.tensor(SIZES), torch.zeros(len(groups))
    for row, window in enumerate(windows.flatten(0, 1)):
        sample = torch.randint(total, (total,), generator=generator)
        near = nearest[sample]
        centre, counts = cluster_centres(values[sample], near, clusters), near.bincount(minlength=clusters)
        shares = torch.stack([nearest[window[:size]].bincount(minlength=clusters) / size for size in SIZES])
        means = values[window].cumsum(0)[sizes - 1] / sizes[:, None]
        squared = (means - shares @ centre).square() / variance(counts, shares, sizes)[:, None]
        statistics[row] = torch.stack([part.sum(1) for part in squared.split(widths, 1)], 1)
        single += picture_statistics(values, nearest, centre, counts, widths).mean(0) / len(statistics)
    mixes = statistics.view(*windows.shape[:2], len(SIZES), len(groups))
    mean, spread = mixes.mean(1), mixes.var(1)
    further = [max(1.0, far / max(float(near), 1e-12)) for far, near in zip(left_out, single, strict=True)]
    return [
        upper_quantile(mean[..., place], spread[..., place], further[place], width)
        for place, width in enumerate(widths)
    ]


def picture_statistics(
    values: Tensor, nearest: Tensor, centre: Tensor, counts: Tensor, widths: Sequence[int]
) -> Tensor:
    """Compute the statistic of windows of one picture each: (n, d), (n,), (K, d), (K,) -> (n, len(widths)).

    Args:
        widths: figures of each group of the d whitened ones.
    """
    squared = (values - centre[nearest]).square() / (1 + 1 / counts[nearest].clamp(min=1))[:, None]
    return torch.stack([part.sum(1) for part in squared.split(list(widths), 1)], 1)


def class_limits(residuals: Tensor, variances: Tensor) -> Tensor:
    """Compute in closed form what `chance_limits` simulates, for windows of one class alone: -> (len(SIZES),).

        mean of the statistic = (trace C / n + |m|²) / variance

    C is the covariance of the class, and m how far its mean is from what its clusters explain.

    Args:
        residuals: (N, d), whitened figures of at least two pictures of the class, minus those of their clusters.
        variances: (len(SIZES),), see `variance`, of windows with the clusters of these pictures.
    """
    count, sizes, mean = len(residuals), torch.tensor(SIZES), residuals.mean(0)
    covariance = (residuals - mean).T @ (residuals - mean) / (count - 1)
    trace, inflated = covariance.trace(), 1 + 1 / (count - 1)  # the covariance is one of few pictures
    bias = (mean.square().sum() - trace / count).clamp(min=0)
    spread = 2 * covariance.square().sum() * inflated / sizes.square() + 4 * mean @ covariance @ mean / sizes
    return upper_quantile((trace / sizes + bias) / variances, spread / variances.square())


def chance_distances(known: Tensor, windows: Tensor) -> Tensor:
    """Find how far chance and the mix take the familiarities of a window below being spread evenly.

    It is the 0.99 quantile of `distance_below`, of a distribution of the shape of Smirnov's with the mean and the
    deviation of simulated windows, and wider by what chance does to N pictures too.

    Args:
        known: (N,), 0..1.
        windows: (mixes, W, n) indices of pictures.

    Returns:
        (mixes, len(SIZES)).
    """
    columns = []
    for size in SIZES:
        distances = distance_below(known[windows[..., :size]])
        columns.append((distances.mean(1) + KOLMOGOROV * distances.std(1)) * (1 + size / len(known)) ** 0.5)
    return torch.stack(columns, 1)


def concentration(counts: Tensor) -> Tensor:
    """Estimate the chance that two pictures are nearest to the same cluster: (..., K) pictures of each -> (...)."""
    size = counts.sum(-1)
    return (counts * (counts - 1)).sum(-1) / (size * (size - 1)).clamp(min=1)


def limit_at(limits: Tensor, concentrations: Tensor, counts: Tensor) -> float:
    """Interpolate what chance does to a window, between the sizes and the mixes that were simulated.

    Args:
        limits: (mixes, len(SIZES)).
        concentrations: (mixes,), of their windows, ascending.
        counts: (K,), pictures of the window that are nearest to each cluster.
    """
    size = max(1, round(float(counts.sum())))
    by_mix = [at_size(row, size) for row in limits]
    return float(np.interp(float(concentration(counts)), concentrations.numpy(), by_mix))


def at_size(values: Tensor, size: int) -> float:
    """Interpolate between the sizes that were simulated: (len(SIZES),)."""
    return float(np.interp(np.log(size), np.log(SIZES), values.numpy()))


def distance_below(known: Tensor) -> Tensor:
    """Compute by how much more pictures of a window lie below a familiarity than own ones do: (..., n) -> (...).

    It is the largest such difference (Smirnov's one-sided distance), with own pictures spread evenly over 0..1.
    """
    values, count = known.sort(-1).values, known.shape[-1]
    steps = torch.arange(1, count + 1).to(values)
    return (steps / count - values).amax(-1)


def upper_quantile(mean: Tensor, spread: Tensor, further: float = 1.0, width: int = 1) -> Tensor:
    """Compute the quantile that half of `FALSE_ALARMS` exceeds, of a distribution whose mean and variance are known.

    It is a scaled chi-squared distribution, over the chance of a covariance that is made of few pictures: together one
    of Fisher and Snedecor's F, as Hotelling's T² is. There are two groups of figures, and each has half of the false
    alarms. The quantile is Paulson's (1942), and with `further` 1 that of Wilson & Hilferty (1931).

    Args:
        further: by how much pictures that the covariance was not made of lie further outside. With v degrees of freedom
            in d directions, it is v / (v - d - 1) on average; so it tells v, and with it how that varies.
        width: d.
    """
    degrees = 2 * mean.square() / spread.clamp(min=1e-12)
    degrees = degrees.clamp(min=1)  # 0 where all pictures are alike
    normal = torch.special.ndtri(torch.tensor(1 - FALSE_ALARMS / 2))
    below = 2 * further + width - 1  # v - d + 1 = below / (further - 1) degrees of freedom
    first, second = 2 / (9 * degrees), 2 * (further - 1) / (9 * below)
    square = (1 - second) ** 2 - normal.square() * second
    linear, constant = (1 - first) * (1 - second), (1 - first).square() - normal.square() * first
    root = (linear + (linear.square() - square * constant).sqrt()) / square
    return mean * further * (width + 1) / below * root**3
