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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.confidence import QUANTILES, Confidence, quantiles_of, share_below
from snow.inference.reference import Reference
from snow.inference.windows import FOLDS, fold_of
from snow.kinds.scores import auroc

MAX_PICTURES = 4096
"""Training pictures that the statistics are made of, at most."""

RANK = 64
MOST_NEIGHBOURS = 1024
NEAREST = 5
SHRINKAGE = 0.3
"""Weight of the identity in the covariance of standardised features, as in `snow.delta.discriminants`."""

OUTSIDE = 0.3
"""Weight of the distance outside of the basis."""

ROUNDS = 3
"""Parts into which the classes are divided to choose a score."""

REFERENCE, CONFIDENCE = "reference.", "confidence."
"""In front of the names of the tensors of a `Reference`, and of a `Confidence`."""


class Located(NamedTuple):
    """Where pictures lie beside those of training.

    Attributes:
        scores: (B,); higher is more familiar.
        nearest: (B,), the cluster whose mean is nearest.
        z: (B, R).
    """

    scores: Tensor
    nearest: Tensor
    z: Tensor


@dataclass(frozen=True)
class Familiarity:
    """Statistics of a task's training pictures.

        x = (final / |final| - centre) * gain       standardised within clusters
        z = basis x                         R directions; the rest of x counts as one direction for all
        distance = min over k of |root (z - means_k)|², or |root (z - z_i)|² to the `NEAREST`-th training picture i
        score = -distance - 0.3 |x - basis' z|² / rest

    `root` is the inverse Cholesky factor of the covariance within clusters, shrunk towards the identity.

    Attributes:
        centre, gain: (D,).
        basis: (R, D), orthonormal rows.
        means: (K, R), of each cluster.
        counts: (K,), pictures of each cluster.
        scatter: (R, R), sum over pictures of (z - mean)(z - mean)'.
        rest: (), variance of x outside of the basis.
        quantiles: (Q,), ascending scores of held-out pictures of the task.
        neighbours: (m, R), z of training pictures; (0, R) if distances to means are used.
        calibration: (K, 2), by how much the scores of pictures that are nearest to each cluster are lower than those of
            the first training, and by how much they are divided; None if no pictures were added since.
        reference: what windows of pictures are compared with; None in tasks of early versions.
        confidence: how sure the task is of its own pictures; None where that tells nothing more, or is not known.
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
    calibration: Tensor | None = None
    reference: Reference | None = None
    confidence: Confidence | None = None

    @classmethod
    def fit(cls, final: Tensor, cluster: Tensor, seed: int = 0, appearance: Tensor | None = None) -> Self | None:
        """Fit the statistics: (n, D), (n,) -> statistics; None where there are too few pictures.

        Args:
            cluster: number of each picture's cluster, -1 for none.
            seed: chooses the pictures where there are more than `MAX_PICTURES`.
            appearance: (n, A), see `snow.inference.appearance`; None: no reference for windows of pictures is kept.
        """
        labelled = (cluster >= 0).nonzero().flatten()
        order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))[:MAX_PICTURES]
        chosen = labelled[order]
        final, cluster = final[chosen].float(), cluster[chosen].unique(return_inverse=True)[1]
        if len(final) < 2 * FOLDS or not final.isfinite().all():
            return None
        whole = cls._fitted(final, cluster, _prefers_neighbours(cls, final, cluster))
        left_out = whole._left_out(final, cluster)
        fitted = replace(whole, quantiles=quantiles_of(left_out.scores))
        if appearance is None:
            return fitted
        known, looks = fitted.share(left_out.scores), appearance[chosen].float()
        return replace(fitted, reference=Reference.fit(left_out.z, looks, known, left_out.nearest, cluster, seed))

    @classmethod
    def _fitted(cls, final: Tensor, cluster: Tensor, use_neighbours: bool, rank: int | None = None) -> Self:
        """Fit all but the quantiles, in `rank` directions; by default half as many as pictures, and `RANK` at most."""
        cluster = cluster.unique(return_inverse=True)[1]
        counts = cluster.bincount()
        unit = _unit(final)
        class_means = torch.zeros(len(counts), final.shape[1]).index_add_(0, cluster, unit) / counts[:, None]
        std = (unit - class_means[cluster]).square().mean(0).sqrt()
        floor = 0.1 * std.mean()
        gain = 1 / std.clamp(min=floor) if floor > 0 else torch.ones_like(std)
        centre = unit.mean(0)
        x = (unit - centre) * gain
        basis = _basis(x, rank or min(RANK, x.shape[1], max(1, len(x) // 2))).half()
        z = x @ basis.float().T
        means = ((class_means - centre) * gain) @ basis.float().T
        residuals = z - means[cluster]
        rest = (_outside(x, z).mean() / max(1, x.shape[1] - z.shape[1])).clamp(min=1e-6)
        neighbours = _thinned(z) if use_neighbours else z[:0]
        return cls(
            centre, gain, basis, means, counts, residuals.T @ residuals, rest, torch.zeros(QUANTILES), neighbours
        )

    def _left_out(self, final: Tensor, cluster: Tensor) -> Located:
        """Locate the pictures of these statistics beside those without them, part by part: (n, D), (n,).

        z is that of the statistics of all.
        """
        located, fold = self.locate(final), fold_of(len(final))
        for number in range(int(fold.max()) + 1):
            asked, kept = fold == number, fold != number
            found = self.fitted_to(final[kept], cluster[kept]).locate(final[asked])
            located.scores[asked], located.nearest[asked] = found.scores, cluster[kept].unique()[found.nearest]
        return located

    def fitted_to(self, final: Tensor, cluster: Tensor) -> Self:
        """Fit the same kind of statistics to some of the pictures, (n, D), (n,), to judge the others. Quantiles stay.

        They have as many directions, and weigh what lies outside alike. Both follow the number of pictures, and the
        others are to have the scores of new pictures by the statistics of all.
        """
        rank = min(len(self.basis), max(1, len(final) - 1))
        fitted = self._fitted(final.float(), cluster, len(self.neighbours) > 0, rank)
        return replace(fitted, quantiles=self.quantiles, rest=self.rest)

    def scores(self, final: Tensor) -> Tensor:
        """Score pictures: (B, D) -> (B,); higher is more familiar."""
        return self.locate(final).scores

    def locate(self, final: Tensor) -> Located:
        """Score pictures, and find the cluster that is nearest: (B, D)."""
        x = self._standardised(final)
        z = x @ self.basis.float().T
        whitened = z @ self.root.T
        distance, cluster = torch.cdist(whitened, self._whitened_means).min(1)
        if len(self.neighbours):
            nearest = torch.cdist(whitened, self._whitened_neighbours).topk(
                min(NEAREST, len(self.neighbours)), largest=False
            )
            distance = nearest.values[:, -1]
        scores = -distance.square() - OUTSIDE * _outside(x, z) / self.rest
        if self.calibration is not None:
            lower, wider = self.calibration[cluster].unbind(1)
            middle = self.quantiles[QUANTILES // 2]
            scores = middle + (scores + lower - middle) / wider
        return Located(scores, cluster, z)

    @cached_property
    def root(self) -> Tensor:
        """Inverse Cholesky factor of the shrunk covariance within clusters: (R, R)."""
        covariance = self.scatter / self.counts.sum() * (1 - SHRINKAGE)
        factor = torch.linalg.cholesky(covariance + SHRINKAGE * torch.eye(len(covariance)))
        return torch.linalg.solve_triangular(factor, torch.eye(len(factor)), upper=False)

    @cached_property
    def _whitened_neighbours(self) -> Tensor:
        return self.neighbours @ self.root.T

    @cached_property
    def _whitened_means(self) -> Tensor:
        return self.means @ self.root.T

    def with_pictures(self, final: Tensor, cluster: Tensor) -> Self:
        """Add pictures to means, covariance and neighbours."""
        z = self._standardised(final) @ self.basis.float().T
        total = max(len(self.counts), int(cluster.max()) + 1)
        counts, means = self.counts.new_zeros(total), self.means.new_zeros(total, z.shape[1]).float()
        counts[: len(self.counts)], means[: len(self.means)] = self.counts, self.means
        scatter = self.scatter.clone()
        for number in cluster.unique().tolist():
            rows = z[cluster == number]
            mean, before, added = rows.mean(0), int(counts[number]), len(rows)
            shift = mean - means[number]
            scatter += (rows - mean).T @ (rows - mean) + shift.outer(shift) * (before * added / (before + added))
            means[number] += shift * (added / (before + added))
            counts[number] += added
        neighbours = _thinned(torch.cat([self.neighbours, z])) if len(self.neighbours) else self.neighbours
        return replace(self, counts=counts, means=means, scatter=scatter, neighbours=neighbours, reference=None)

    def selected(self, clusters: Sequence[int]) -> Self:
        """Keep some clusters only, and the neighbours that are nearest to them. With fewer, no confidence is kept."""
        index = torch.as_tensor(clusters)
        reference = None if self.reference is None else self.reference.selected(clusters)
        calibration = None if self.calibration is None else self.calibration[index]
        kept = replace(self, counts=self.counts[index], means=self.means[index], calibration=calibration)
        nearest = torch.cdist(self._whitened_neighbours, self._whitened_means).argmin(1)
        neighbours = self.neighbours[torch.isin(nearest, index)]
        confidence = self.confidence if len(index) == len(self.counts) else None
        return replace(kept, neighbours=neighbours, reference=reference, confidence=confidence)

    def known(self, final: Tensor) -> Tensor:
        """Tell how familiar pictures are: (B, D) -> (B,) in 0..1.

        It is the share of held-out pictures of the task that are less familiar, so that those of the task itself are
        spread evenly over 0..1. Below all of them it falls to 0 with the distance.
        """
        return self.share(self.scores(final))

    def share(self, scores: Tensor) -> Tensor:
        """Compute the share of held-out pictures with lower scores: (B,) -> (B,) in 0..1."""
        return share_below(self.quantiles, scores)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        own = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for prefix, part in ((REFERENCE, self.reference), (CONFIDENCE, self.confidence)):
            if part is not None:
                own |= {prefix + name: value.contiguous() for name, value in part.tensors().items()}
        return own

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Read what `tensors` gave.

        Raises:
            DamagedError: one is missing, or they do not fit together.
        """
        names = [entry.name for entry in fields(cls) if entry.name not in ("calibration", "reference", "confidence")]
        windows, sureness = (
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for prefix in (REFERENCE, CONFIDENCE)
        )
        own = {name: value for name, value in tensors.items() if not name.startswith((REFERENCE, CONFIDENCE))}
        if sorted(own.keys() - {"calibration"}) != sorted(names):
            raise DamagedError("the statistics of training pictures are damaged: tensors are missing or unknown")
        known = cls(**own, reference=None, confidence=None)
        (rank, width), clusters = known.basis.shape, len(known.counts)
        shapes = {
            "centre": (width,),
            "gain": (width,),
            "means": (clusters, rank),
            "scatter": (rank, rank),
            "rest": (),
            "quantiles": (QUANTILES,),
            "neighbours": (len(known.neighbours), rank),
            **({} if known.calibration is None else {"calibration": (clusters, 2)}),
        }
        wrong = [name for name, shape in shapes.items() if tuple(tensors[name].shape) != shape]
        if wrong or not clusters:
            raise DamagedError(f"the statistics of training pictures are damaged: {', '.join(wrong)} has a wrong shape")
        return replace(
            known,
            reference=Reference.of_tensors(windows, clusters, rank) if windows else None,
            confidence=Confidence.of_tensors(sureness) if sureness else None,
        )

    def _standardised(self, final: Tensor) -> Tensor:
        return (_unit(final.float()) - self.centre) * self.gain


def _outside(x: Tensor, z: Tensor) -> Tensor:
    return (x.square().sum(1) - z.square().sum(1)).clamp(min=0)


def _thinned(z: Tensor) -> Tensor:
    """Keep at most `MOST_NEIGHBOURS` rows, evenly spaced."""
    if len(z) <= MOST_NEIGHBOURS:
        return z
    return z[torch.linspace(0, len(z) - 1, MOST_NEIGHBOURS).round().long()]


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def _basis(x: Tensor, rank: int) -> Tensor:
    """Find the directions of most variance: (n, D) -> (R, D), orthonormal rows."""
    n, width = x.shape
    if n < width:  # the smaller of the two products has the same eigenvalues
        strength, vectors = torch.linalg.eigh(x @ x.T)
        rows = (vectors[:, -rank:].T @ x) / strength[-rank:].clamp(min=1e-12).sqrt()[:, None]
        return torch.linalg.qr(rows.T).Q.T.contiguous()
    return torch.linalg.eigh(x.T @ x)[1][:, -rank:].T.contiguous()


def _prefers_neighbours(kind: type[Familiarity], final: Tensor, cluster: Tensor) -> bool:
    """Ask held-out classes which score tells the unknown from the known better.

    In each round a share of the classes is left out, and so is every `FOLDS`-th picture of the others.
    """
    rounds = min(ROUNDS, int(cluster.max()) + 1)
    held_out = torch.arange(len(cluster)) % FOLDS == 0
    areas = torch.zeros(2)
    for number in range(rounds if rounds > 1 else 0):
        own = cluster % rounds != number
        train, asked = own & ~held_out, held_out | ~own
        fitted = kind._fitted(final[train], cluster[train], use_neighbours=True)
        for column, model in enumerate((replace(fitted, neighbours=fitted.neighbours[:0]), fitted)):
            areas[column] += auroc(model.scores(final[asked]).double(), own[asked])
    return bool(areas[1] > areas[0])
