"""Linear classifiers in closed form on blocks of inputs, with pictures left out to judge them by.

    ridge regression    W = argmin ||Y - Z W||² + penalty ||W||²                     (Hoerl & Kennard, 1970)
    discriminants       W = (R'R + penalty I)^-1 M',  bias = -diag(M W) / 2          (Fisher, 1936; Friedman, 1989)

    Z = concat(sqrt(w_b / s_b) X_b),  M (C, I) class means of Z,  R rows of Z minus the mean of their class

s_b is the mean squared length of a row of block b, so that the weights w_b say how much of the inputs' variance each
block has. Rows are views of pictures; all views of a picture are in one fold. Ridge regression takes any targets. It
shrinks what tells classes apart best, which costs nothing at full rank, and much where a lower rank keeps only that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 4096
"""Rows that are multiplied at a time, so that no second copy of all is made."""

Weights = Mapping[str, float]
"""Block -> its share w_b of the variance; a block without an entry has none."""


class Rows(NamedTuple):
    """The regression problem.

    Attributes:
        blocks: name -> (m, I_b), centred inputs.
        targets: (m, O), one-hot labels for example.
        fold: (m,), number of the fold that leaves a row out; -1: none does.
        discriminants: fit discriminants of the classes that one-hot targets name, in the place of a regression.
    """

    blocks: dict[str, Tensor]
    targets: Tensor
    fold: Tensor
    discriminants: bool = False


class Solution(NamedTuple):
    """A fit, with its answers `Z W + bias`.

    Attributes:
        weights: block -> (I_b, O), for inputs as they are in the rows.
        bias: (O,).
        strength: (O, O), answers for the class means without the bias; of discriminants.
    """

    weights: dict[str, Tensor]
    bias: Tensor
    strength: Tensor


class LeftOut(NamedTuple):
    """Answers for rows that were not fitted: (r, O) without the bias, and bias and strength of the fit."""

    answers: Tensor
    bias: Tensor
    strength: Tensor


class Ridge(ABC):
    """Solves the problem for many penalties, weights of the blocks and selections of rows.

    Args:
        rows: all rows.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.scale = {name: float(x.square().sum(1).mean().clamp(min=1e-12)) for name, x in rows.blocks.items()}
        """s_b of each block."""

    @abstractmethod
    def solve(self, shares: Weights, penalty: float, fitted: Tensor) -> Solution:
        """Fit some rows.

        Args:
            fitted: (m,) of bool.
        """

    @abstractmethod
    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> LeftOut:
        """Fit the rows outside a fold and answer for those inside.

        Args:
            without: another fold whose rows are not fitted.
        """


class DualRidge(Ridge):
    """Solves systems of as many equations as rows: for few rows. Memory: m² numbers for each block."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._kernels = {name: x @ x.T / self.scale[name] for name, x in rows.blocks.items()}
        self._mixed: tuple[Weights, Tensor] | None = None
        """The kernel of the mix that was used last: (m, m)."""

    def solve(self, shares: Weights, penalty: float, fitted: Tensor) -> Solution:
        index = fitted.nonzero().flatten()
        dual, bias, strength = self._dual(shares, penalty, index)
        of_all = dual.new_zeros(len(fitted), dual.shape[1]).index_copy_(0, index, dual)
        weights = {
            name: self.rows.blocks[name].T @ of_all * (share / self.scale[name]) for name, share in shares.items()
        }
        return Solution(weights, bias, strength)

    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> LeftOut:
        inside = (self.rows.fold == fold).nonzero().flatten()
        outside = _outside(self.rows.fold, fold, without).nonzero().flatten()
        dual, bias, strength = self._dual(shares, penalty, outside)
        return LeftOut(self._kernel(shares, inside, outside) @ dual, bias, strength)

    def _dual(self, shares: Weights, penalty: float, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solve for the factors of the rows in the weights: (k, O), bias (O,), strength (O, O)."""
        kernel, targets = self._kernel(shares, index, index), self.rows.targets[index]
        if not self.rows.discriminants:
            mean = targets.mean(0)
            return _solve(kernel, targets - mean, penalty), mean, targets.new_zeros(0, 0)
        average = targets / targets.sum(0).clamp(min=1)

        def residual(values: Tensor) -> Tensor:
            return values - targets @ (average.T @ values)

        means = kernel @ average
        inner = _solve(residual(residual(kernel).T), residual(means), penalty)
        dual = (average - residual(inner)) / penalty
        strength = means.T @ dual
        return dual, -0.5 * strength.diagonal(), strength

    def _kernel(self, shares: Weights, left: Tensor, right: Tensor) -> Tensor:
        if self._mixed is None or self._mixed[0] != shares:
            first, *others = (self._kernels[name] * share for name, share in shares.items())
            self._mixed = shares, sum(others, first)
        return self._mixed[1].index_select(0, left).index_select(1, right)


class PrimalRidge(Ridge):
    """Solves systems of as many equations as inputs: for many rows. Memory: the square of the inputs, twice."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._sizes = {name: x.shape[1] for name, x in rows.blocks.items()}
        self._known: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        """X'X, X'Y and Y'1 of the rows that were fitted last, after the mask of these rows."""

    def solve(self, shares: Weights, penalty: float, fitted: Tensor) -> Solution:
        gram, products, counts = self._normal_equations(fitted)
        sizes = self._sizes
        factors = torch.cat(
            [torch.full((size,), (shares.get(name, 0.0) / self.scale[name]) ** 0.5) for name, size in sizes.items()]
        ).to(gram)
        used = factors.nonzero().flatten()
        factors = factors[used, None]
        scaled = gram[used[:, None], used].mul_(factors).mul_(factors.T)
        right = products[used] * factors
        solution = torch.zeros_like(products)
        if self.rows.discriminants:
            means = right / counts.clamp(min=1)
            solved = _solve(scaled.addmm_(right, means.T, alpha=-1), means, penalty)
            strength = means.T @ solved
            bias = -0.5 * strength.diagonal()
        else:
            bias, strength = counts / fitted.sum(), gram.new_zeros(0, 0)
            total = self._sums(fitted)[used] * factors[:, 0]
            solved = _solve(scaled, right - total[:, None] * bias, penalty)
        solution[used] = factors * solved
        split = dict(zip(sizes, solution.split(list(sizes.values())), strict=True))
        return Solution({name: split[name] for name in shares}, bias, strength)

    def left_out(self, shares: Weights, penalty: float, fold: int, without: int | None = None) -> LeftOut:
        inside = self.rows.fold == fold
        fit = self.solve(shares, penalty, _outside(self.rows.fold, fold, without))
        answers = [self.rows.blocks[name][inside] @ value for name, value in fit.weights.items()]
        return LeftOut(torch.stack(answers).sum(0), fit.bias, fit.strength)

    def _sums(self, fitted: Tensor) -> Tensor:
        return torch.cat([x[fitted].sum(0) for x in self.rows.blocks.values()])

    def _normal_equations(self, fitted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute X'X, X'Y and Y'1, from those of the last rows where these differ little."""
        if self._known is not None and int((self._known[0] ^ fitted).sum()) < int(fitted.sum()):
            before, *sums = self._known
        else:
            size, outputs = sum(self._sizes.values()), self.rows.targets.shape[1]
            zeros = self.rows.targets.new_zeros
            before, sums = torch.zeros_like(fitted), [zeros(size, size), zeros(size, outputs), zeros(outputs)]
        for rows, sign in ((fitted & ~before, 1), (before & ~fitted, -1)):
            for chunk in rows.nonzero().flatten().split(CHUNK):
                inputs, targets = torch.cat([x[chunk] for x in self.rows.blocks.values()], 1), self.rows.targets[chunk]
                sums[0].addmm_(inputs.T, inputs, alpha=sign)
                sums[1].addmm_(inputs.T, targets, alpha=sign)
                sums[2].add_(targets.sum(0), alpha=sign)
        self._known = (fitted, sums[0], sums[1], sums[2])
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
