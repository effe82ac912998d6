"""Ridge regression: both forms solve the stated problem, and left-out rows are really left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snow.delta.ridge import DualRidge, PrimalRidge, Ridge, Rows, make_ridge, stratified_folds

SHARES = {"a": 0.3, "b": 0.7}


def problem(rows: int = 30, fold_count: int = 3) -> Rows:
    generator = torch.Generator().manual_seed(1)
    blocks = {
        name: torch.randn(rows, width, generator=generator, dtype=torch.float64) * scale
        for name, width, scale in (("a", 4, 1.0), ("b", 7, 5.0))
    }
    targets = torch.randn(rows, 2, generator=generator, dtype=torch.float64) + blocks["a"][:, :2] + 3
    return Rows(blocks, targets, torch.arange(rows) % fold_count)


def by_hand(ridge: Ridge, rows: Rows, mask: Tensor, penalty: float) -> dict[str, Tensor]:
    """Fit the stacked least-squares problem with a row sqrt(penalty) for each input."""
    factors = {name: (share / ridge.scale[name]) ** 0.5 for name, share in SHARES.items()}
    inputs = torch.cat([rows.blocks[name][mask] * factor for name, factor in factors.items()], 1)
    width = inputs.shape[1]
    stacked = torch.cat([inputs, penalty**0.5 * torch.eye(width, dtype=torch.float64)])
    targets = rows.targets[mask]
    right = torch.cat([targets - targets.mean(0), torch.zeros(width, 2, dtype=torch.float64)])
    solution = torch.linalg.lstsq(stacked, right).solution.split([4, 7])
    return {name: part * factors[name] for name, part in zip(SHARES, solution, strict=True)}


@pytest.mark.parametrize("penalty", [0.1, 10.0])
@pytest.mark.parametrize("kind", [DualRidge, PrimalRidge])
def test_weights_solve_the_penalised_problem(kind: type[Ridge], penalty: float) -> None:
    rows = problem()
    ridge = kind(rows)
    for mask in (torch.ones(30, dtype=torch.bool), torch.arange(30) > 10, torch.arange(30) < 12):
        fit = ridge.solve(SHARES, penalty, mask)
        for name, expected in by_hand(ridge, rows, mask, penalty).items():
            torch.testing.assert_close(fit.weights[name], expected)
        torch.testing.assert_close(fit.bias, rows.targets[mask].mean(0))


@pytest.mark.parametrize("kind", [DualRidge, PrimalRidge])
def test_left_out_rows_are_not_fitted(kind: type[Ridge]) -> None:
    rows = problem()
    ridge = kind(rows)
    weights = by_hand(ridge, rows, rows.fold != 1, 1.0)
    expected = sum(rows.blocks[name][rows.fold == 1] @ weight for name, weight in weights.items())
    left_out = ridge.left_out(SHARES, 1.0, 1)
    torch.testing.assert_close(left_out.answers, expected)
    torch.testing.assert_close(left_out.bias, rows.targets[rows.fold != 1].mean(0))
    fewer = by_hand(ridge, rows, rows.fold == 0, 1.0)
    expected = sum(rows.blocks[name][rows.fold == 1] @ weight for name, weight in fewer.items())
    torch.testing.assert_close(ridge.left_out(SHARES, 1.0, 1, without=2).answers, expected)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
@pytest.mark.parametrize("kind", [DualRidge, PrimalRidge])
def test_discriminants_solve_for_the_scatter_within_classes(kind: type[Ridge], penalty: float) -> None:
    rows = problem()
    label = torch.arange(30) % 4
    rows = rows._replace(targets=torch.nn.functional.one_hot(label, 4).double(), discriminants=True)
    ridge = kind(rows)
    for mask in (torch.ones(30, dtype=torch.bool), torch.arange(30) > 10, torch.arange(30) < 12):
        factors = {name: (share / ridge.scale[name]) ** 0.5 for name, share in SHARES.items()}
        z = torch.cat([rows.blocks[name][mask] * factor for name, factor in factors.items()], 1)
        means = torch.stack([z[label[mask] == value].mean(0) for value in range(4)])
        residuals = z - means[label[mask]]
        solved = torch.linalg.solve(residuals.T @ residuals + penalty * torch.eye(11), means.T)
        fit = ridge.solve(SHARES, penalty, mask)
        expected = dict(zip(SHARES, solved.split([4, 7]), strict=True))
        for name, factor in factors.items():
            torch.testing.assert_close(fit.weights[name], expected[name] * factor)
        torch.testing.assert_close(fit.strength, means @ solved)
        torch.testing.assert_close(fit.bias, -0.5 * (means @ solved).diagonal())


@pytest.mark.parametrize("kind", [DualRidge, PrimalRidge])
def test_a_block_without_a_share_gets_no_weights(kind: type[Ridge]) -> None:
    rows = problem()
    everything = torch.ones(30, dtype=torch.bool)
    weights = kind(rows).solve({"b": 1.0}, 1.0, everything).weights
    without = kind(rows._replace(blocks={"b": rows.blocks["b"]})).solve({"b": 1.0}, 1.0, everything).weights
    assert weights.keys() == {"b"}
    torch.testing.assert_close(weights["b"], without["b"])


def test_a_singular_problem_still_gives_numbers() -> None:
    rows = problem()
    rows.blocks["a"][:] = 1e6
    for kind in (DualRidge, PrimalRidge):
        single = Rows({name: x.float() for name, x in rows.blocks.items()}, rows.targets.float(), rows.fold)
        weights = kind(single).solve(SHARES, 1e-2, torch.ones(30, dtype=torch.bool)).weights
        assert all(value.isfinite().all() for value in weights.values())


def test_the_smaller_systems_are_solved() -> None:
    assert isinstance(make_ridge(problem(8, 2)), DualRidge)
    assert isinstance(make_ridge(problem(30)), PrimalRidge)


@pytest.mark.parametrize("count", [2, 5])
def test_folds_hold_their_share_of_each_class(count: int) -> None:
    label = torch.tensor([0] * 11 + [1] * 5 + [-1] * 3 + [2] * 20)[torch.randperm(39)]
    fold = stratified_folds(label, count, 0)
    assert (fold[label < 0] == -1).all()
    for value in range(3):
        sizes = torch.bincount(fold[label == value], minlength=count)
        assert sizes.max() - sizes.min() <= 1
    sizes = torch.bincount(fold[label >= 0], minlength=count)
    assert sizes.max() - sizes.min() <= 1
    assert torch.equal(fold, stratified_folds(label, count, 0))
    assert not torch.equal(fold, stratified_folds(label, count, 1))
