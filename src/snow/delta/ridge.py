"""Ridge regression in closed form on blocks of inputs, for any targets, with pictures left out to judge it by.

    W = argmin ||Y - Z W||² + penalty ||W||²,      Z = concat(sqrt(w_b / s_b) X_b)      (Hoerl & Kennard, 1970)

s_b is the mean squared length of a row of block b, so that the weights w_b say how much of the inputs' variance each
block has. Rows are views of pictures; all views of a picture are in one fold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Weights = Mapping[str, float]
"""Block -> its share w_b of the variance; a block without an entry has none."""


class Rows(NamedTuple):
    """The regression problem.

    Attributes:
        blocks: name -> (m, I_b), centred inputs.
        targets: (m, O), centred targets, one-hot labels for example.
        fold: (m,), number of the fold that leaves a row out; -1: none does.
    """

    blocks: dict[str, Tensor]
    targets: Tensor
    fold: Tensor


class Ridge(ABC):
    """Solves a ridge regression for many penalties, weights of the blocks and selections of rows.

    Args:
        rows: all rows.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.scale = {name: float(x.square().sum(1).mean().clamp(min=1e-12)) for name, x in rows.blocks.items()}
        """s_b of each block."""

    @abstractmethod
    def weights(self, shares: Weights, penalty: float, fitted: Tensor) -> dict[str, Tensor]:
        """Fit some rows: block -> (I_b, O), for inputs as they are in the rows.

        Args:
            fitted: (m,) of bool.
        """

    @abstractmethod
    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> Tensor:
        """Fit the rows outside a fold and answer for those inside: (rows in the fold, O).

        Args:
            without: another fold whose rows are not fitted.
        """


class DualRidge(Ridge):
    """Solves systems of as many equations as rows: for few rows. Memory: m² numbers for each block."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._kernels = {name: x @ x.T / self.scale[name] for name, x in rows.blocks.items()}

    def weights(self, shares: Weights, penalty: float, fitted: Tensor) -> dict[str, Tensor]:
        index = fitted.nonzero().flatten()
        dual = _solve(self._kernel(shares, index, index), self.rows.targets[index], penalty)
        return {
            name: self.rows.blocks[name][index].T @ dual * (share / self.scale[name]) for name, share in shares.items()
        }

    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> Tensor:
        inside = (self.rows.fold == fold).nonzero().flatten()
        outside = _outside(self.rows.fold, fold, without).nonzero().flatten()
        dual = _solve(self._kernel(shares, outside, outside), self.rows.targets[outside], penalty)
        return self._kernel(shares, inside, outside) @ dual

    def _kernel(self, shares: Weights, left: Tensor, right: Tensor) -> Tensor:
        parts = [self._kernels[name][left[:, None], right] * share for name, share in shares.items()]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


class PrimalRidge(Ridge):
    """Solves systems of as many equations as inputs: for many rows. Memory: the square of the inputs, twice."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._sizes = {name: x.shape[1] for name, x in rows.blocks.items()}
        self._known: tuple[Tensor, Tensor, Tensor] | None = None
        """X'X and X'Y of the rows that were fitted last, after the mask of these rows."""

    def weights(self, shares: Weights, penalty: float, fitted: Tensor) -> dict[str, Tensor]:
        gram, right = self._normal_equations(fitted)
        sizes = self._sizes
        factors = torch.cat(
            [torch.full((size,), (shares.get(name, 0.0) / self.scale[name]) ** 0.5) for name, size in sizes.items()]
        ).to(gram)
        used = factors.nonzero().flatten()
        factors = factors[used, None]
        scaled = gram[used[:, None], used] * factors * factors.T
        solution = torch.zeros_like(right)
        solution[used] = factors * _solve(scaled, factors * right[used], penalty)
        split = dict(zip(sizes, solution.split(list(sizes.values())), strict=True))
        return {name: split[name] for name in shares}

    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> Tensor:
        inside = self.rows.fold == fold
        weights = self.weights(shares, penalty, _outside(self.rows.fold, fold, without))
        return torch.stack([self.rows.blocks[name][inside] @ value for name, value in weights.items()]).sum(0)

    def _normal_equations(self, fitted: Tensor) -> tuple[Tensor, Tensor]:
        if self._known is None or not torch.equal(self._known[0], fitted):
            self._known = None  # frees its memory first
            inputs = torch.cat([x[fitted] for x in self.rows.blocks.values()], 1)
            self._known = fitted, inputs.T @ inputs, inputs.T @ self.rows.targets[fitted]
        return self._known[1:]


def make_ridge(rows: Rows) -> Ridge:
    """Choose the form with the smaller systems."""
    inputs = sum(x.shape[1] for x in rows.blocks.values())
    return DualRidge(rows) if len(rows.targets) <= inputs else PrimalRidge(rows)


def _outside(fold: Tensor, number: int, without: int | None) -> Tensor:
    """Return the rows that are fitted: (m,) of bool."""
    outside = fold != number
    return outside if without is None else outside & (fold != without)


def _solve(matrix: Tensor, right: Tensor, penalty: float) -> Tensor:
    """Solve `(matrix + penalty I) x = right` for a positive semidefinite matrix, in place of `matrix`."""
    matrix.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):  # rounding made it indefinite: the penalty is below the precision of its largest values
        matrix.diagonal().add_(1e-5 * float(matrix.diagonal().max()))
        factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(right, factor)


def stratified_folds(label: Tensor, count: int, seed: int) -> Tensor:
    """Deal the pictures of each class out to folds: (n,) -> (n,) in 0..count - 1; -1 without a label.

    Each class starts where the one before it stopped, so that folds are of one size.
    """
    generator = torch.Generator().manual_seed(seed)
    fold, start = torch.full_like(label, -1), 0
    for value in label[label >= 0].unique().tolist():
        members = (label == value).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        fold[members] = (torch.arange(len(members)) + start) % count
        start += len(members)
    return fold
