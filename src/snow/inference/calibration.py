"""Scores of pictures that a task learns later, so that they are as familiar to it as those of its first training.

The directions that scores are made of explain the pictures of the first training. Others lie further outside of them,
and differ more among themselves.

Shape letters: n pictures, D width of the source's final features, K clusters.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snow.inference.familiarity import Familiarity, Located
from snow.inference.reference import Added
from snow.inference.windows import FOLDS

PRIOR = 5
"""Pictures of the usual spread that are added to those of a cluster, to estimate its own."""


def extend_familiarity(
    before: Familiarity, final: Tensor, cluster: Tensor, appearance: Tensor | None = None
) -> Familiarity:
    """Add pictures: (n, D), (n,) -> statistics of all, as if they had been there from the start.

    Centre, gain, basis and quantiles stay. Clusters that are new follow those that there are. Scores of pictures that
    are nearest to a cluster with new ones are calibrated by these, so that they are as familiar as others. No
    confidence is kept, as the task answers otherwise now.

    Args:
        appearance: (n, A), see `snow.inference.appearance`; without it the reference for windows is lost.
    """
    without = left_out(before, final, cluster)
    calibration = calibrated(before, without, cluster)
    changed = replace(before.with_pictures(final, cluster), calibration=calibration, confidence=None)
    if before.reference is None or appearance is None:
        return changed
    located = changed.locate(final)
    added = Added(cluster, located.nearest, without.nearest, located.z, appearance)
    return replace(changed, reference=before.reference.updated(added, len(changed.counts)))


def left_out(before: Familiarity, final: Tensor, cluster: Tensor) -> Located:
    """Locate each picture beside those of training and the other new ones, without calibration: (n, D), (n,).

    The only picture of a class is not left out.
    """
    plain, place = replace(before, calibration=None), torch.zeros_like(cluster)
    for number in cluster.unique().tolist():
        place[cluster == number] = torch.arange(int((cluster == number).sum()))
    is_only = cluster.bincount()[cluster] == 1
    located = plain.with_pictures(final, cluster).locate(final)
    for number in range(FOLDS):
        asked = (place % FOLDS == number) & ~is_only
        if asked.any():
            found = plain.with_pictures(final[~asked], cluster[~asked]).locate(final[asked])
            located.scores[asked], located.nearest[asked] = found.scores, found.nearest
    return located


def calibrated(before: Familiarity, located: Located, cluster: Tensor) -> Tensor:
    """Fit the calibration of the clusters of new pictures: -> (K, 2), see `Familiarity`.

    Median and spread of their scores become those of the first training, as far as a cluster consists of new pictures.

    Args:
        located: as `left_out` gives it.
        cluster: (n,), of each picture.
    """
    kept = torch.tensor([0.0, 1.0]).repeat(len(before.counts), 1) if before.calibration is None else before.calibration
    more = max(0, int(cluster.max()) + 1 - len(kept))
    rows = torch.cat([kept, torch.tensor([0.0, 1.0]).repeat(more, 1)])
    low, middle, high = (before.quantiles.quantile(share) for share in (0.16, 0.5, 0.84))
    usual = ((high - low) / 2).clamp(min=1e-6)
    for number in cluster.unique().tolist():
        own = located.scores[cluster == number]
        near = located.scores[(cluster == number) & (located.nearest == number)]
        own = near if len(near) > 1 else own
        if len(own) < 2:
            continue
        learned = int(before.counts[number]) if number < len(before.counts) else 0
        spread = ((len(own) * own.var() + PRIOR * usual.square()) / (len(own) + PRIOR)).sqrt()
        fitted = torch.stack([middle - own.median(), spread / usual])
        rows[number] = rows[number].lerp(fitted, len(own) / (len(own) + learned))
    return rows
