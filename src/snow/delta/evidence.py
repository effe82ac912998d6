"""What left-out pictures say for each candidate of a start: the loss of scaled answers, and averages by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snow.delta.likelihood import CATEGORICAL, Likelihood
from snow.delta.ridge import Ridge, Weights
from snow.delta.scaling import best_scale

PENALTIES = tuple(10.0 ** (half / 2) for half in range(-4, 5))
"""0.01 to 100, for inputs whose rows have a mean squared length of 1."""

MIN_FOLDS_FOR_GROWTH = 4
MAX_GROWTH = 1.5
"""Bounds of `Judge.growth`."""

NEGLIGIBLE = 1e-2
"""Candidates with less weight than this, relative to the best one, are left out of the average."""


@dataclass(frozen=True)
class Candidate:
    """One way to fit the start.

    Attributes:
        shares: share of each block of inputs in the variance.
        penalty: of the ridge regression.
        answers: (r, C), for the left-out pictures, in the order of `Judge.label`, without the bias.
        bias: (r, C), of the fit without their fold.
        strength: as in `Solution`, of the first fold.
        label: (r,), or targets (r, C).
        loss: of scaled answers and bias, see `Likelihood.measure`.
        figure: of these.
        prior: logarithm of the prior odds.
        likelihood: of the labels.
    """

    shares: Weights
    penalty: float
    answers: Tensor
    bias: Tensor
    strength: Tensor
    label: Tensor
    loss: float
    figure: float
    prior: float
    likelihood: Likelihood = CATEGORICAL

    @cached_property
    def scale(self) -> float | Tensor:
        """Factor of answers and bias that suits the labels, or (C,); found only for candidates that count."""
        return self.likelihood.scaling(self.answers + self.bias, self.label).factor

    def to_dict(self, weight: float) -> dict[str, Any]:
        """Describe the candidate as JSON values, with its weight in the average."""
        rounded = {"loss": round(self.loss, 4), self.likelihood.figure: round(self.figure, 4)}
        shares = {"shares": dict(self.shares), "penalty": round(self.penalty, 4)}
        return {**shares, **rounded, "weight": round(weight, 4)}


class Judge:
    """Judges candidates by the plain views of pictures whose views some folds leave out.

    Args:
        ridge: the problem; its first n rows are the plain views.
        folds: numbers of the folds that are left out in turn.
        label: (n,), or targets (n, C).
        likelihood: of the labels.
    """

    def __init__(self, ridge: Ridge, folds: Sequence[int], label: Tensor, likelihood: Likelihood = CATEGORICAL) -> None:
        self.ridge, self.folds, self.likelihood = ridge, folds, likelihood
        self.plain = [(ridge.rows.fold[: len(label)] == fold).nonzero().flatten() for fold in folds]
        self.label = label[torch.cat(self.plain)]
        self.observations = likelihood.observations(self.label)

    def judge(self, shares: Weights, penalty: float, prior: float) -> Candidate:
        """Fit outside of each fold, answer inside, and measure."""
        answers, bias, strength = self._left_out(shares, penalty)
        loss, figure = self.measure(answers + bias)
        return Candidate(shares, penalty, answers, bias, strength, self.label, loss, figure, prior, self.likelihood)

    def _left_out(self, shares: Weights, penalty: float, without: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Answer for the left-out pictures: (r, C) without the bias, (r, C) of the bias, and the first strength.

        Args:
            without: number of folds F; also leave out the fold after the one that is left out.
        """
        answers, biases, strengths = [], [], []
        for fold, plain in zip(self.folds, self.plain, strict=True):
            other = None if without is None else (fold + 1) % without
            part = self.ridge.left_out(shares, penalty, fold, other)
            answers.append(part.answers[: len(plain)].float())
            biases.append(part.bias.float().expand(len(plain), -1))
            strengths.append(part.strength.float())
        return torch.cat(answers), torch.cat(biases), strengths[0]

    def growth(self, weighted: Sequence[tuple[Candidate, float]], fold_count: int) -> float:
        """Estimate by how much the scale grows when the left-out pictures are fitted as well.

        Fitted to more pictures the same answers are right more often, and may be surer. The logarithm of the scale is
        extrapolated linearly in that of the number of pictures: from a fit that lacks one more fold, and one that does
        not, to one that lacks none.

        Args:
            fold_count: number of folds, F.
        """
        if fold_count < MIN_FOLDS_FOR_GROWTH or not self.likelihood.grows:
            return 1.0
        fewer, same = torch.zeros_like(weighted[0][0].answers), torch.zeros_like(weighted[0][0].answers)
        for candidate, share in weighted:
            answers, bias, _ = self._left_out(candidate.shares, candidate.penalty, fold_count)
            fewer += (answers + bias) * (candidate.scale * share)
            same += (candidate.answers + candidate.bias) * (candidate.scale * share)
        scales = [best_scale(answers, self.label) for answers in (fewer, same)]
        step = math.log(fold_count / (fold_count - 1)) / math.log((fold_count - 1) / (fold_count - 2))
        return min(MAX_GROWTH, max(1.0, (scales[1] / scales[0]) ** step))

    def measure(self, answers: Tensor) -> tuple[float, float]:
        """Return the loss of scaled answers (r, C), and their figure."""
        return self.likelihood.measure(answers, self.label)

    def search(self, mixes: Iterable[tuple[Weights, float]], penalties: Sequence[float]) -> list[Candidate]:
        """Judge every mix of blocks at every second penalty, then the best ones at the penalties next to theirs.

        Args:
            mixes: shares of the blocks, and the logarithm of their prior odds.
        """
        found = [self.judge(shares, penalty, prior) for shares, prior in mixes for penalty in penalties[::2]]
        best = min(candidate.loss for candidate in found)
        margin = math.log(1 / NEGLIGIBLE) / max(1, self.observations)
        for candidate in [candidate for candidate in found if candidate.loss - best < margin]:
            place = penalties.index(candidate.penalty)
            judged = {other.penalty for other in found if other.shares == candidate.shares}
            for penalty in {*penalties[max(0, place - 1) : place + 2]} - judged:
                found.append(self.judge(candidate.shares, penalty, candidate.prior))
        return found


def weigh(candidates: Sequence[Candidate], observations: int) -> list[tuple[Candidate, float]]:
    """Weigh candidates by evidence: `p ~ exp(prior - observations * loss)` (Hoeting et al., 1999).

    The average of linear fits is one linear fit, and safer than the best of them.

    Args:
        observations: number of labels that were left out, of which the losses are means.

    Returns:
        Those that count, with weights that sum to 1, the heaviest first.
    """
    logs = torch.tensor(
        [candidate.prior - observations * candidate.loss for candidate in candidates], dtype=torch.float64
    )
    weights = torch.softmax(logs, 0)
    weights[weights < NEGLIGIBLE * weights.max()] = 0
    weights = (weights / weights.sum()).tolist()
    counting = [pair for pair in zip(candidates, weights, strict=True) if pair[1] > 0]
    return sorted(counting, key=lambda pair: -pair[1])
