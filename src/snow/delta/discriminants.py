"""Where to look first: the directions along which classes differ most for their spread (Fisher, 1936)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SHRINKAGE = 0.3
"""How much of the spread within classes is taken for uncorrelated. Picked on held-out training pictures of 196 classes:
0.1 was up to two points worse, 0.5 no better."""


def discriminants(inputs: Tensor, label: Tensor, count: int) -> Tensor:
    """The first `count` linear discriminants of labelled pictures, the strongest first.

    Of `S = (1 - a) W + a diag(W)`, where W is the covariance within classes and a is `SHRINKAGE`, and the class means
    M: the directions `S^-1 M v / s` for the eigenpairs `(s², v)` of `M' S^-1 M`. Within classes, inputs vary by 1
    along each and are uncorrelated.

    Args:
        inputs: (n, D) of pictures with labels (n,), -1 where there is none.

    Returns:
        (m, D), m at most `count`, and less than the number of classes that are seen.
    """
    seen = _seen(inputs, label)
    if seen is None:
        return inputs.new_zeros(0, inputs.shape[1])
    towards = _solve(seen.rest, seen.apart)
    strength, mixed = torch.linalg.eigh(seen.apart.T @ towards)
    strongest = strength.argsort(descending=True)[: min(count, len(strength) - 1)]
    strongest = strongest[strength[strongest] > 1e-6 * strength.max()]
    return (towards @ (mixed[:, strongest] / strength[strongest].sqrt()) / seen.spread[:, None]).T


def scatter_root(inputs: Tensor, label: Tensor) -> Tensor:
    """(D, D), lower triangular: L of `S = L L'` for the S of `discriminants`; 1 where there are no two classes."""
    seen = _seen(inputs, label)
    if seen is None:
        return torch.eye(inputs.shape[1]).to(inputs)
    return seen.spread[:, None] * torch.linalg.cholesky(_scatter(seen.rest))


class _Seen(NamedTuple):
    """Pictures in units of the spread within classes: less their class mean (n, D), class means less that of all (D,
    C), and the spread (D,)."""

    rest: Tensor
    apart: Tensor
    spread: Tensor


def _seen(inputs: Tensor, label: Tensor) -> _Seen | None:
    """None where nothing can be told: a single class, or one picture of each."""
    inputs, label = inputs[label >= 0], label[label >= 0]
    classes, own = label.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(own, max(1, len(classes))).to(inputs)
    means = (member.T @ inputs) / member.sum(0)[:, None]
    rest = inputs - means[own]
    spread = rest.square().mean(0).sqrt()
    floor = 0.01 * spread.mean()
    if len(classes) < 2 or not floor > 0:
        return None
    spread = spread.clamp(min=floor)
    return _Seen(rest / spread, ((means - inputs.mean(0)) / spread).T, spread)


def _scatter(rest: Tensor) -> Tensor:
    """`(1 - a) R'R / n + a I`."""
    scatter = rest.T @ rest * ((1 - SHRINKAGE) / len(rest))
    scatter.diagonal().add_(SHRINKAGE)
    return scatter


def _solve(rest: Tensor, apart: Tensor) -> Tensor:
    """`((1 - a) R'R / n + a I)^-1 B` for R (n, D) and B (D, C), by whichever of D and n is smaller."""
    n, size = rest.shape
    if size <= n:
        return torch.cholesky_solve(apart, torch.linalg.cholesky(_scatter(rest)))
    gram = rest @ rest.T
    gram.diagonal().add_(n * SHRINKAGE / (1 - SHRINKAGE))
    inner = torch.cholesky_solve(rest @ apart, torch.linalg.cholesky(gram))
    return (apart - rest.T @ inner) / SHRINKAGE


MOST = 8192
"""So many inputs at most: the coordinates take a matrix of as many rows and columns."""


class Whitening(nn.Module):
    """A linear change of inputs behind which weights learn: of those that are taken when learning begins.

    Gradient descent first follows the inputs that vary most, and these say least about classes that are much alike.
    Where inputs vary alike and are uncorrelated within classes, it follows what tells classes apart (LeCun et al.,
    Efficient BackProp, 1998, section 4.3). Inputs that are taken later, because the choice of channels still changes,
    pass as they are. What is served holds weights for the inputs themselves, see `folded`.

    Args:
        inputs: how many are taken at a time.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.columns: Tensor
        self.root: Tensor
        self.register_buffer("columns", torch.arange(inputs))
        self.register_buffer("root", torch.eye(inputs))
        """L of the covariance within classes, L L', inverted and transposed: what inputs are multiplied by."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, slots), zero where a slot is not taken; returns as many."""
        return x.index_copy(1, self.columns, (x[:, self.columns] @ self.root).to(x))

    @torch.no_grad()
    def start(self, inputs: Tensor, label: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """Takes the coordinates from labelled pictures, as `discriminants` does.

        Args:
            inputs: (n, D), of the slots at `columns` (D,).
            weights: (m, D) for them.

        Returns:
            Those weights as they are behind this: the answers stay what they were.
        """
        self.columns.copy_(columns)
        root = scatter_root(inputs, label)
        self.root.copy_(torch.linalg.solve_triangular(root.T, torch.eye(len(root)).to(root), upper=True))
        return weights @ root

    @torch.no_grad()
    def folded(self, weights: Tensor) -> Tensor:
        """(m, slots) behind this -> (m, slots) without it."""
        return weights.index_copy(1, self.columns, weights[:, self.columns] @ self.root.T)
