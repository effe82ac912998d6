"""A start in closed form: the linear classifier on what passes of the source say that left-out pictures bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from snow.delta.evidence import PENALTIES, Candidate, Judge, weigh
from snow.delta.pass_rows import ANSWERS_BLOCK, FINAL_BLOCK, MOMENTS_BLOCK, Layout, PassRows, Standard, layouts_within
from snow.delta.ridge import Rows, Weights, make_ridge, stratified_folds

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


@dataclass(frozen=True)
class Start:
    """A linear classifier `expand @ weight @ ((x[index] - centre) * gain) + bias`.

    Attributes:
        index: (I,), inputs among those of all blocks of the rows, in their order.
        centre, gain: (I,).
        weight: (C, I), or (R, I) with `expand`.
        bias: (C,).
        expand: (C, R), or None.
        refit: what is added to the weight where pictures that training holds out are fitted as well; of its shape.
        crossfit: what is added to the weight where one fold of the learned pictures is not fitted, (F, C or R, I); None
            if all pictures are learned.
        folds: (n,), in 0..F - 1 of the learned pictures, else -1; None with `crossfit`.
        evidence: what was chosen and why, as JSON values.
    """

    index: Tensor
    centre: Tensor
    gain: Tensor
    weight: Tensor
    bias: Tensor
    expand: Tensor | None
    refit: Tensor
    crossfit: Tensor | None
    folds: Tensor | None
    evidence: dict[str, Any] = field(default_factory=dict)


def find_start(rows: PassRows, budget: int, learned: Tensor | None = None, seed: int = 0) -> Start:
    """Fit the start, with its inputs, penalty, rank and temperature by left-out pictures.

    Args:
        rows: with pictures of at least two classes.
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
    for layout in layouts_within(rows, budget, solvable, ranking):
        blocks = frozenset(layout.inputs)
        fit = _fit_layout(rows, standard, layout, folds, mixes.get(blocks, MIXES))
        mixes[blocks] = [mix for mix in MIXES if any(mix == candidate.shares for candidate, _ in fit.weighted)]
        summaries.append(fit.summary(rows.num_classes))
        if best is None or fit.loss < best.loss:  # only the best one is kept in memory
            best = fit
    assert best is not None
    best = best._replace(scale=best.scale * best.judge.growth(best.weighted, folds.count))
    known = None if learned is None or bool(learned.all()) else learned
    return best.start(rows, standard, folds, known, summaries)


class _Fit(NamedTuple):
    """A layout with its candidates, and what their average says of left-out pictures.

    Attributes:
        shift: block -> (I_b,), mean of the standardised rows, which is not zero where some views are augmented.
        weighted: candidates and their weights in the average.
        basis: (C, R), orthonormal; the answers that the rank leaves are in its span. None: all.
        scale: of the average's answers.
        loss, accuracy: of the scaled answers.
    """

    layout: Layout
    judge: Judge
    shift: dict[str, Tensor]
    weighted: list[tuple[Candidate, float]]
    basis: Tensor | None
    scale: float
    loss: float
    accuracy: float

    def summary(self, classes: int) -> dict[str, Any]:
        """Describe layout and candidates as JSON values."""
        return {
            "inputs": {name: len(index) for name, index in self.layout.inputs.items()},
            "rank": self.layout.rank,
            "numbers": self.layout.numbers(classes),
            "loss": round(self.loss, 4),
            "accuracy": round(self.accuracy, 4),
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
        """Fit the average to the learned pictures, to all, and to the learned ones without each fold."""
        used = [name for name in self.layout.inputs if any(name in candidate.shares for candidate, _ in self.weighted)]
        fitted = [] if learned is None else [learned]
        fitted.append(torch.ones_like(rows.label, dtype=torch.bool))
        numbers = [] if learned is None else folds.fold[learned].unique().tolist()
        fitted += [learned & (folds.fold != number) for number in numbers if learned is not None]
        weights = [self._weights(used, mask.repeat(rows.views)) for mask in fitted]
        starts = dict(zip(rows.sizes, torch.tensor([0, *rows.sizes.values()]).cumsum(0).tolist(), strict=False))
        inputs = self.layout.inputs
        index = torch.cat([inputs[name] + starts[name] for name in used])
        gain = torch.cat([standard.gain[name][inputs[name]] for name in used])
        centre = torch.cat([standard.centre[name][inputs[name]] for name in used])
        centre = centre + torch.cat([self.shift[name] for name in used]) / gain
        # inputs of unit mean squared length: a step of an optimizer then changes answers alike, however many there are
        lengths = [torch.full((len(inputs[name]),), self.judge.ridge.scale[name] * len(used)) for name in used]
        length = torch.cat(lengths).sqrt()
        first, *rest = (weight * length for weight in weights)
        bias = self.judge.mean * (self.scale * sum(candidate.scale * share for candidate, share in self.weighted))
        evidence: dict[str, Any] = {"pictures": len(rows.label), "views": rows.views}
        evidence |= {"left_out": len(self.judge.label), "chosen": self.summary(rows.num_classes)}
        evidence["layouts"] = list(layouts)
        if learned is None:
            refit, crossfit, places = torch.zeros_like(first), None, None
        else:
            refit, crossfit = rest[0] - first, torch.stack(rest[1:]) - first
            places = torch.searchsorted(torch.tensor(numbers), folds.fold).masked_fill(~learned, -1)
        return Start(index, centre, gain / length, first, bias, self.basis, refit, crossfit, places, evidence)

    def _weights(self, used: Sequence[str], fitted: Tensor) -> Tensor:
        """Average the candidates' weights and project them onto the basis: (C, I), or (R, I)."""
        total = {name: torch.zeros(len(self.layout.inputs[name]), len(self.judge.mean)) for name in used}
        for candidate, share in self.weighted:
            weights = self.judge.ridge.weights(candidate.shares, candidate.penalty, fitted)
            for name, weight in weights.items():
                total[name] += weight.float() * (share * candidate.scale * self.scale)
        weight = torch.cat([total[name] for name in used]).T.contiguous()
        return weight if self.basis is None else self.basis.T @ weight


class _Folds(NamedTuple):
    """Folds of the pictures (n,), their number, and the numbers of those that are left out in turn."""

    fold: Tensor
    count: int
    left_out: list[int]


def _folds(rows: PassRows, learned: Tensor | None, seed: int) -> _Folds:
    """Deal pictures out to folds. With many rows one of them is left out: what is not learned, if there is any."""
    counts = torch.bincount(rows.label)
    count = max(2, min(FOLDS, int(counts[counts > 0].min())))
    if rows.views * len(rows.label) <= MAX_FOLDED_ROWS:
        return _Folds(stratified_folds(rows.label, count, seed), count, list(range(count)))
    if learned is not None and not bool(learned.all()):
        others = stratified_folds(rows.label.masked_fill(~learned, -1), FOLDS - 1, seed)
        return _Folds(others + 1, FOLDS, [0])
    return _Folds(stratified_folds(rows.label, count, seed), count, [0])


def _fit_layout(rows: PassRows, standard: Standard, layout: Layout, folds: _Folds, mixes: Sequence[Weights]) -> _Fit:
    """Judge those mixes that a layout has the blocks of, and average those that count."""
    blocks, shift = {}, {}
    for name, index in layout.inputs.items():
        values = rows.blocks[name][..., index].float().flatten(0, 1)
        values = (values - standard.centre[name][index]) * standard.gain[name][index]
        shift[name] = values.mean(0)
        blocks[name] = values - shift[name]
    label = rows.label.repeat(rows.views)
    targets = one_hot(label, rows.num_classes).float()
    mean, dtype = targets.mean(0), torch.float64 if len(folds.left_out) > 1 else torch.float32
    blocks = {name: values.to(dtype) for name, values in blocks.items()}
    problem = Rows(blocks, (targets - mean).to(dtype), folds.fold.repeat(rows.views))
    judge = Judge(make_ridge(problem), folds.left_out, rows.label, mean)
    known = [(mix, MOMENTS_PRIOR if MOMENTS_BLOCK in mix else 0.0) for mix in mixes if mix.keys() <= blocks.keys()]
    weighted = weigh(judge.search(known, PENALTIES), len(judge.label))
    answers = torch.stack([candidate.answers * (candidate.scale * share) for candidate, share in weighted]).sum(0)
    basis = None
    if layout.rank is not None:
        _, vectors = torch.linalg.eigh((answers.T @ answers).double())
        basis = vectors[:, -layout.rank :].float()
        answers = answers @ basis @ basis.T
    mean_answer = mean * sum(candidate.scale * share for candidate, share in weighted)
    scale, loss, accuracy = judge.measure(answers, mean_answer)
    return _Fit(layout, judge, shift, weighted, basis, scale, loss, accuracy)
