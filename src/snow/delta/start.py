"""A start in closed form: the linear fit to what passes of the source say that left-out pictures bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snow.delta.evidence import PENALTIES, Candidate, Judge, weigh
from snow.delta.pass_rows import (
    ANSWERS_BLOCK,
    FINAL_BLOCK,
    MOMENTS_BLOCK,
    Layout,
    PassRows,
    Standard,
    layouts_within,
    strongest_moments,
)
from snow.delta.ridge import Rows, Weights, make_ridge, stratified_folds
from snow.delta.scaling import Scaling

MIXES: tuple[Weights, ...] = (
    {FINAL_BLOCK: 1.0},
    {FINAL_BLOCK: 0.5, ANSWERS_BLOCK: 0.5},
    {FINAL_BLOCK: 0.5, MOMENTS_BLOCK: 0.5},
    {FINAL_BLOCK: 0.1, MOMENTS_BLOCK: 0.9},
    {MOMENTS_BLOCK: 1.0},
    {FINAL_BLOCK: 0.3, ANSWERS_BLOCK: 0.2, MOMENTS_BLOCK: 0.5},
    {FINAL_BLOCK: 0.1, ANSWERS_BLOCK: 0.1, MOMENTS_BLOCK: 0.8},
)
"""Shares of the blocks in the variance of the inputs: the candidates of the evidence."""

MOMENTS_PRIOR = -2.0
"""Logarithm of the prior odds of mixes with moments: with ten pictures no left-out loss tells them apart."""

FOLDS = 5

MAX_FOLDED_ROWS = 1200
"""Rows up to which every fold is left out in turn, in double precision; with more, one fold is."""

MAX_EQUATIONS = 5000
"""Upper bound of the systems that are solved: of the rows, or of the inputs where there are more rows."""

WIDE_EQUATIONS = 6000
"""The same of the one fit whose weights choose among the moments."""


@dataclass(frozen=True)
class Start:
    """A linear classifier or regression `expand @ weight @ ((x[index] - centre) * gain) + bias`.

    Attributes:
        index: (I,), inputs among those of all blocks of the rows, in their order.
        centre, gain: (I,).
        weight: (C, I), or (R, I) with `expand`.
        bias: (C,).
        expand: (C, R), or None.
        refit, refit_bias: what is added to the weight and the bias where pictures that training holds out are fitted as
            well; of their shapes.
        evidence: what was chosen and why, as JSON values.
    """

    index: Tensor
    centre: Tensor
    gain: Tensor
    weight: Tensor
    bias: Tensor
    expand: Tensor | None
    refit: Tensor
    refit_bias: Tensor
    evidence: dict[str, Any] = field(default_factory=dict)


def find_start(rows: PassRows, budget: int, learned: Tensor | None = None, seed: int = 0) -> Start:
    """Fit the start, with its inputs, penalty, rank and temperature by left-out pictures.

    Args:
        rows: with pictures of at least two classes, or two different targets.
        budget: upper bound of its numbers; a linear probe may have more.
        learned: (n,) of bool, the pictures that the start is fitted to; None: all. With `Start.refit` it has all.
        seed: of the folds.
    """
    standard = Standard.of(rows)
    solvable = sum(rows.sizes.values()) if rows.views * len(rows.label) <= MAX_EQUATIONS else MAX_EQUATIONS
    folds = _folds(rows, learned, seed)
    ranking = folds.fold != folds.left_out[0] if len(folds.left_out) == 1 else None
    summaries: list[dict[str, Any]] = []
    best: _Fit | None = None
    mixes: dict[frozenset[str], Sequence[Weights]] = {}
    losses: dict[int | None, float] = {}
    for layout in layouts_within(rows, budget, solvable, ranking):
        if layout.rank not in losses and _falls_behind(list(losses.values())):
            break  # lower ranks lose more
        blocks = frozenset(layout.inputs)
        fit = _fit_layout(rows, standard, layout, folds, mixes.get(blocks, MIXES))
        mixes[blocks] = [mix for mix in MIXES if any(mix == candidate.shares for candidate, _ in fit.weighted)]
        summaries.append(fit.summary(rows.num_classes))
        losses[layout.rank] = min(fit.loss, losses.get(layout.rank, fit.loss))
        if best is None or fit.loss < best.loss:  # only the best one is kept in memory
            best = fit
    assert best is not None
    if ranking is not None and (chosen := _by_weight(rows, standard, best, folds, ranking)) is not None:
        fit = _fit_layout(rows, standard, chosen, folds, [candidate.shares for candidate, _ in best.weighted[:1]])
        summaries.append({**fit.summary(rows.num_classes), "moments_by": "weight"})
        if fit.loss < best.loss:
            best = fit
    growth = best.judge.growth(best.weighted, folds.count)
    best = best._replace(scaling=best.scaling._replace(factor=best.scaling.factor * growth))
    known = None if learned is None or bool(learned.all()) else learned
    start = best.start(rows, standard, folds, known, summaries)
    return replace(start, evidence={**start.evidence, "growth": round(growth, 4)})


def _falls_behind(losses: Sequence[float]) -> bool:
    """Whether the last rank is worse than the one before it."""
    return len(losses) > 1 and losses[-1] > losses[-2]


class _Fit(NamedTuple):
    """A layout with its candidates, and what their average says of left-out pictures.

    Attributes:
        shift: block -> (I_b,), mean of the standardised rows, which is not zero where some views are augmented.
        weighted: candidates and their weights in the average.
        basis: (C, R), orthonormal; the centred answers that the rank leaves are in its span. None: all.
        scaling: of the average's answers.
        loss, figure: what left-out pictures say of these.
    """

    layout: Layout
    judge: Judge
    shift: dict[str, Tensor]
    weighted: list[tuple[Candidate, float]]
    basis: Tensor | None
    scaling: Scaling
    loss: float
    figure: float

    def summary(self, classes: int) -> dict[str, Any]:
        """Describe layout and candidates as JSON values."""
        return {
            "inputs": {name: len(index) for name, index in self.layout.inputs.items()},
            "rank": self.layout.rank,
            "numbers": self.layout.numbers(classes),
            "loss": round(self.loss, 4),
            self.judge.likelihood.figure: round(self.figure, 4),
            "candidates": [candidate.to_dict(weight) for candidate, weight in self.weighted],
        }

    def start(
        self,
        rows: PassRows,
        standard: Standard,
        folds: _Folds,
        learned: Tensor | None,
        layouts: Sequence[dict[str, Any]],
    ) -> Start:
        """Fit the average to the learned pictures, and to all."""
        used = [name for name in self.layout.inputs if any(name in candidate.shares for candidate, _ in self.weighted)]
        fitted = [] if learned is None else [learned]
        fitted.append(torch.ones(len(rows.label), dtype=torch.bool))
        fits = [self._average(used, mask.repeat(rows.views)) for mask in fitted]
        starts = dict(zip(rows.sizes, torch.tensor([0, *rows.sizes.values()]).cumsum(0).tolist(), strict=False))
        inputs = self.layout.inputs
        index = torch.cat([inputs[name] + starts[name] for name in used])
        gain = torch.cat([standard.gain[name][inputs[name]] for name in used])
        centre = torch.cat([standard.centre[name][inputs[name]] for name in used])
        centre = centre + torch.cat([self.shift[name] for name in used]) / gain
        # inputs of unit mean squared length: a step of an optimizer then changes answers alike, however many there are
        lengths = [torch.full((len(inputs[name]),), self.judge.ridge.scale[name] * len(used)) for name in used]
        length = torch.cat(lengths).sqrt()
        first, *rest = (weight * length for weight, _ in fits)
        evidence: dict[str, Any] = {"pictures": len(rows.label), "views": rows.views}
        evidence |= {"left_out": len(self.judge.label), "chosen": self.summary(rows.num_classes)}
        evidence["layouts"] = list(layouts)
        bias, refit, refit_bias = fits[0][1], torch.zeros_like(first), torch.zeros_like(fits[0][1])
        if learned is not None:
            refit, refit_bias = rest[0] - first, fits[1][1] - bias
        gain = gain / length
        return Start(index, centre, gain, first, bias, self.basis, refit, refit_bias, evidence)

    def _average(self, used: Sequence[str], fitted: Tensor) -> tuple[Tensor, Tensor]:
        """Average the candidates' weights, (C, I) or (R, I) on the basis, and their biases, (C,)."""
        classes = self.judge.ridge.rows.targets.shape[1]
        total = {name: torch.zeros(len(self.layout.inputs[name]), classes) for name in used}
        bias = torch.zeros(classes)
        for candidate, share in self.weighted:
            factor = share * candidate.scale * self.scaling.factor
            fit = self.judge.ridge.solve(candidate.shares, candidate.penalty, fitted)
            bias += fit.bias.float() * factor
            for name, weight in fit.weights.items():
                total[name] += weight.float() * factor
        weight = torch.cat([total[name] for name in used]).T.contiguous()
        return weight if self.basis is None else self.basis.T @ weight, bias + self.scaling.offset


def strongest_directions(strength: Tensor, rank: int) -> Tensor:
    """Find the directions in the answers along which class means differ most: (C, C) -> (C, R), orthonormal.

    Along these directions discriminants separate best relative to the scatter within classes.
    """
    centred = strength - strength.mean(0)
    centred = centred - centred.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(((centred + centred.T) / 2).double())
    return vectors[:, -rank:].float()


class _Folds(NamedTuple):
    """Folds of the pictures (n,), their number, and the numbers of those that are left out in turn."""

    fold: Tensor
    count: int
    left_out: list[int]


def _folds(rows: PassRows, learned: Tensor | None, seed: int) -> _Folds:
    """Deal pictures out to folds. With many rows one of them is left out: what is not learned, if there is any."""
    strata = rows.likelihood.strata(rows.label)
    count = max(2, min(FOLDS, rows.likelihood.members(rows.label)))
    if rows.views * len(rows.label) <= MAX_FOLDED_ROWS:
        return _Folds(stratified_folds(strata, count, seed), count, list(range(count)))
    if learned is not None and not bool(learned.all()):
        others = stratified_folds(strata.masked_fill(~learned, -1), FOLDS - 1, seed)
        return _Folds(others + 1, FOLDS, [0])
    return _Folds(stratified_folds(strata, count, seed), count, [0])


def _problem(rows: PassRows, standard: Standard, layout: Layout, folds: _Folds) -> tuple[Rows, dict[str, Tensor]]:
    """Set up the regression of a layout; also returns the mean of each block, by which it is centred."""
    blocks, shift = {}, {}
    for name, index in layout.inputs.items():
        values = rows.blocks[name][..., index].float().flatten(0, 1)
        values.sub_(standard.centre[name][index]).mul_(standard.gain[name][index])
        shift[name] = values.mean(0)
        blocks[name] = values.sub_(shift[name])
    dtype = torch.float64 if len(folds.left_out) > 1 else torch.float32
    blocks = {name: values.to(dtype) for name, values in blocks.items()}
    targets = rows.likelihood.targets(rows.label, rows.num_classes).repeat(rows.views, 1).to(dtype)
    return Rows(blocks, targets, folds.fold.repeat(rows.views), discriminants=layout.rank is not None), shift


def _by_weight(rows: PassRows, standard: Standard, best: _Fit, folds: _Folds, ranking: Tensor) -> Layout | None:
    """Choose the moments of a layout anew, by their weights in a fit to more of them (Guyon et al., 2002).

    Their scores judge them one by one, and prefer several that say the same. None if there are no others.

    Args:
        ranking: (n,) of bool, the pictures that are fitted.
    """
    candidate, inputs = best.weighted[0][0], best.layout.inputs
    count = len(inputs[MOMENTS_BLOCK]) if MOMENTS_BLOCK in candidate.shares else 0
    others = sum(len(index) for index in inputs.values()) - count
    strongest = strongest_moments(rows, ranking)[: max(0, WIDE_EQUATIONS - others)] if count else torch.arange(0)
    if len(strongest) <= count:
        return None
    wide = best.layout._replace(inputs={**inputs, MOMENTS_BLOCK: strongest.sort().values})
    ridge = make_ridge(_problem(rows, standard, wide, folds)[0])
    weight = ridge.solve(candidate.shares, candidate.penalty, ranking.repeat(rows.views)).weights[MOMENTS_BLOCK]
    weight = weight if best.basis is None else weight @ best.basis.to(weight)
    heaviest = weight.square().sum(1).topk(count).indices.sort().values
    return wide._replace(inputs={**inputs, MOMENTS_BLOCK: wide.inputs[MOMENTS_BLOCK][heaviest]})


def _fit_layout(rows: PassRows, standard: Standard, layout: Layout, folds: _Folds, mixes: Sequence[Weights]) -> _Fit:
    """Judge those mixes that a layout has the blocks of, and average those that count."""
    problem, shift = _problem(rows, standard, layout, folds)
    judge = Judge(make_ridge(problem), folds.left_out, rows.label, rows.likelihood)
    known = [
        (mix, MOMENTS_PRIOR if MOMENTS_BLOCK in mix else 0.0) for mix in mixes if mix.keys() <= problem.blocks.keys()
    ]
    weighted = weigh(judge.search(known, PENALTIES), judge.observations)
    factors = [candidate.scale * share for candidate, share in weighted]
    answers = torch.stack([c.answers * factor for (c, _), factor in zip(weighted, factors, strict=True)]).sum(0)
    bias = torch.stack([c.bias * factor for (c, _), factor in zip(weighted, factors, strict=True)]).sum(0)
    basis = None
    if layout.rank is not None:
        strength = torch.stack([c.strength * factor for (c, _), factor in zip(weighted, factors, strict=True)]).sum(0)
        basis = strongest_directions(strength, layout.rank)
        answers = answers @ basis @ basis.T
    answers = answers + bias
    scaling = rows.likelihood.scaling(answers, judge.label)
    return _Fit(layout, judge, shift, weighted, basis, scaling, *judge.measure(answers))
