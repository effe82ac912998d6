"""Factors of answers that suit the labels of left-out rows: answers (r, C) of r rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SLIPS = 0.02
"""Where the share of slips starts from in `robust_scale`."""

STEPS = 50
"""Upper bound of the steps of Newton's method in `sigmoid_fit`."""

SLOPES = (0.01, 100.0)
"""Bounds of the slopes in `sigmoid_fit`, for answers of unit variance: they never fall."""


class Scaling(NamedTuple):
    """How answers (r, C) become outputs: `answers * factor + offset`, with a number or (C,) of each."""

    factor: float | Tensor
    offset: float | Tensor = 0.0


def log_loss(logits: Tensor, label: Tensor) -> float:
    """Compute the mean cross-entropy: (r, C), (r,)."""
    return float(F.cross_entropy(logits, label))


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


def sigmoid_fit(answers: Tensor, labels: Tensor) -> Scaling:
    """Find factor (C,) and offset (C,) with the smallest log-loss of `sigmoid(answers * factor + offset)`.

    By Newton's method for each tag, with the smoothed targets of Platt (1999): with n tags that are on,
    (n + 1) / (n + 2) in the place of 1, and alike for 0. Answers that do not vary have a factor of 0.

    Args:
        answers: (r, C).
        labels: (r, C), 0 or 1, NaN where nothing is known.
    """
    known = labels.isfinite().to(answers)
    is_on, count = (labels == 1).to(answers), known.sum(0)
    on, off = is_on.sum(0), count - is_on.sum(0)
    targets = torch.where(is_on == 1, (on + 1) / (on + 2), 1 / (off + 2))
    mean = (answers * known).sum(0) / count.clamp(min=1)
    spread = ((answers - mean).square() * known).sum(0).div(count.clamp(min=1)).sqrt()
    values = (answers - mean) / spread.clamp(min=1e-12)
    slope, shift = torch.ones_like(mean), ((on + 1) / (off + 1)).log()
    least = 1e-6 * count + 1e-12
    for _ in range(STEPS):
        probability = torch.sigmoid(values * slope + shift)
        error, curvature = (probability - targets) * known, probability * (1 - probability) * known
        by_slope, by_shift = (error * values).sum(0), error.sum(0)
        aa, ab, bb = (curvature * values.square()).sum(0) + least, (curvature * values).sum(0), curvature.sum(0) + least
        determinant = (aa * bb - ab.square()).clamp(min=1e-12)
        down = ((bb * by_slope - ab * by_shift) / determinant).clamp(-1, 1)
        is_bound = (slope <= SLOPES[0]) & (down > 0)
        shifted = torch.where(is_bound, by_shift / bb, (aa * by_shift - ab * by_slope) / determinant).clamp(-1, 1)
        moved = (slope - down).clamp(*SLOPES)
        shift, change = shift - shifted, torch.maximum((moved - slope).abs(), shifted.abs())
        slope = moved
        if not bool((change > 1e-4).any()):
            break
    factor = torch.where(spread > 1e-7, slope / spread.clamp(min=1e-12), 0.0)
    return Scaling(factor, shift - factor * mean)
