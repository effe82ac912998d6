"""What left-out pictures say for each candidate of a start: the log-loss of scaled answers, and averages by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snow.delta.ridge import Ridge, Weights

PENALTIES = tuple(10.0 ** (half / 2) for half in range(-4, 5))
"""0.01 to 100, for inputs whose rows have a mean squared length of 1."""

MIN_FOLDS_FOR_GROWTH = 4
MAX_GROWTH = 1.5
"""Bounds of `Judge.growth`."""

SLIPS = 0.02
"""Where the share of slips starts from in `robust_scale`."""

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
        label: (r,).
        loss: smallest log-loss of scaled answers and bias.
        accuracy: of these.
        prior: logarithm of the prior odds.
    """

    shares: Weights
    penalty: float
    answers: Tensor
    bias: Tensor
    strength: Tensor
    label: Tensor
    loss: float
    accuracy: float
    prior: float

    @cached_property
    def scale(self) -> float:
        """Factor of answers and bias that suits the labels; found only for candidates that count."""
        return robust_scale(self.answers + self.bias, self.label)

    def to_dict(self, weight: float) -> dict[str, Any]:
        """Describe the candidate as JSON values, with its weight in the average."""
        rounded = {"loss": round(self.loss, 4), "accuracy": round(self.accuracy, 4), "weight": round(weight, 4)}
        return {"shares": dict(self.shares), "penalty": round(self.penalty, 4), **rounded}


class Judge:
    """Judges candidates by the plain views of pictures whose views some folds leave out.

    Args:
        ridge: the problem, with one-hot targets; its first n rows are the plain views.
        folds: numbers of the folds that are left out in turn.
        label: (n,).
    """

    def __init__(self, ridge: Ridge, folds: Sequence[int], label: Tensor) -> None:
        self.ridge, self.folds = ridge, folds
        self.plain = [(ridge.rows.fold[: len(label)] == fold).nonzero().flatten() for fold in folds]
        self.label = label[torch.cat(self.plain)]

    def judge(self, shares: Weights, penalty: float, prior: float) -> Candidate:
        """Fit outside of each fold, answer inside, and measure."""
        answers, bias, strength = self._left_out(shares, penalty)
        return Candidate(shares, penalty, answers, bias, strength, self.label, *self.measure(answers + bias), prior)

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
        if fold_count < MIN_FOLDS_FOR_GROWTH:
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
        """Return the smallest log-loss of scaled answers (r, C), and their accuracy."""
        loss = log_loss(answers * best_scale(answers, self.label), self.label)
        return loss, float((answers.argmax(1) == self.label).float().mean())

    def search(self, mixes: Iterable[tuple[Weights, float]], penalties: Sequence[float]) -> list[Candidate]:
        """Judge every mix of blocks at every second penalty, then the best ones at the penalties next to theirs.

        Args:
            mixes: shares of the blocks, and the logarithm of their prior odds.
        """
        found = [self.judge(shares, penalty, prior) for shares, prior in mixes for penalty in penalties[::2]]
        best = min(candidate.loss for candidate in found)
        margin = math.log(1 / NEGLIGIBLE) / len(self.label)
        for candidate in [candidate for candidate in found if candidate.loss - best < margin]:
            place = penalties.index(candidate.penalty)
            judged = {other.penalty for other in found if other.shares == candidate.shares}
            for penalty in {*penalties[max(0, place - 1) : place + 2]} - judged:
                found.append(self.judge(candidate.shares, penalty, candidate.prior))
        return found


def weigh(candidates: Sequence[Candidate], pictures: int) -> list[tuple[Candidate, float]]:
    """Weigh candidates by evidence: `p ~ exp(prior - pictures * loss)` (Hoeting et al., 1999).

    The average of linear classifiers is one linear classifier, and safer than the best of them.

    Args:
        pictures: number of pictures that were left out.

    Returns:
        Those that count, with weights that sum to 1, the heaviest first.
    """
    logs = torch.tensor([candidate.prior - pictures * candidate.loss for candidate in candidates], dtype=torch.float64)
    weights = torch.softmax(logs, 0)
    weights[weights < NEGLIGIBLE * weights.max()] = 0
    weights = (weights / weights.sum()).tolist()
    counting = [pair for pair in zip(candidates, weights, strict=True) if pair[1] > 0]
    return sorted(counting, key=lambda pair: -pair[1])


def log_loss(logits: Tensor, label: Tensor) -> float:
    """Compute the mean cross-entropy: (r, C), (r,)."""
    return float(torch.nn.functional.cross_entropy(logits, label))


def robust_scale(answers: Tensor, label: Tensor, rounds: int = 10) -> float:
    """Find the factor s of answers (r, C) that suits softmax(s * answers), but for a share of slips.

    Of many classes a few left-out pictures are answered wrongly and surely, and a log-loss makes all others unsure for
    their sake. Here the probability of a label is `(1 - e) softmax(s * answers) + e / C`; s and e are fitted by
    expectation and maximisation (Dempster et al., 1977), and e is dropped.
    """
    scale, slips = best_scale(answers, label), SLIPS
    for _ in range(rounds):
        right = torch.softmax(answers * scale, 1).gather(1, label[:, None])[:, 0] * (1 - slips)
        weight = right / (right + slips / answers.shape[1])
        slips = float(1 - weight.mean())
        scale = best_scale(answers, label, weight)
    return scale


def best_scale(answers: Tensor, label: Tensor, weight: Tensor | None = None, steps: int = 25) -> float:
    """Find the factor s of answers (r, C) with the smallest log-loss of softmax(s * answers), by Newton's method.

    The targets give away `1 / (r + 2)` of their probability, so that a few pictures that are all right do not make the
    answers infinitely sure (after Platt, 1999).

    Args:
        weight: (r,), of each row; None: all weigh the same.
    """
    classes = answers.shape[1]
    share = torch.full_like(answers[:, 0], 1 / len(label)) if weight is None else weight / weight.sum().clamp(min=1e-12)
    spare = 1 / (len(label) + 2)
    right = answers.gather(1, label[:, None])[:, 0]
    others = (answers.sum(1) - right) / max(1, classes - 1)
    target = float(((1 - spare) * right + spare * others) @ share)
    spread = float((answers - answers.mean(1, keepdim=True)).square().mean().sqrt())
    if not spread > 0 or math.isnan(spread):
        return 1.0
    low, high = math.log(0.01 / spread), math.log(100 / spread)
    scale = 1 / spread
    for _ in range(steps):
        probability = torch.softmax(answers * scale, 1)
        mean = (probability * answers).sum(1)
        slope = float(mean @ share) - target
        curvature = float(((probability * answers.square()).sum(1) - mean.square()) @ share)
        step = max(scale / 4, min(scale * 4, scale - slope / max(curvature, 1e-12 * spread**2)))
        step = math.exp(min(high, max(low, math.log(step))))
        if abs(step - scale) < 1e-4 * scale:
            return step
        scale = step
    return scale
