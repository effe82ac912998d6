"""Exact figures of answers, in a few lines each: precision and recall, ranks, errors, calibration.

Shape letters: n pictures, C classes or tags.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snow.kinds.choices import ThresholdTarget

BINS = 15
"""Bins of confidence in the expected calibration error (Guo et al., 2017)."""


def f1(true_positives: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    """Compute F1 = 2 TP / (predicted + actual) of each class: (C,) each -> (C,); 0 where nothing is right."""
    return 2 * true_positives / (predicted + actual).clamp(min=1)


def balanced_accuracy(confusion: Tensor) -> float:
    """Average the recall of the classes that have pictures: (C, C), actual by predicted, -> a fraction."""
    images = confusion.sum(1)
    present = images > 0
    return _mean(confusion.diagonal()[present] / images[present])


def macro_f1(confusion: Tensor) -> float:
    """Average F1 over the classes that have pictures or were predicted: (C, C) -> a fraction."""
    predicted, actual = confusion.sum(0), confusion.sum(1)
    scores = f1(confusion.diagonal().double(), predicted.double(), actual.double())
    return _mean(scores[predicted + actual > 0])


def reliability(confidence: Tensor, correct: Tensor, bins: int = BINS) -> list[dict[str, float]]:
    """Bin predictions by confidence: (n,), (n,) -> images, mean confidence and accuracy of each bin with pictures."""
    place = (confidence * bins).ceil().clamp(1, bins).long() - 1
    curve = []
    for number in place.unique().tolist():
        inside = place == number
        curve.append(
            {
                "from": number / bins,
                "to": (number + 1) / bins,
                "images": int(inside.sum()),
                "confidence": _mean(confidence[inside]),
                "accuracy": _mean(correct[inside].double()),
            }
        )
    return curve


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Compute the expected calibration error: sum over bins of share * |accuracy - mean confidence|."""
    curve = reliability(confidence, correct, bins)
    return sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in curve) / max(1, len(confidence))


def average_precision(scores: Tensor, positive: Tensor) -> float | None:
    """Compute average precision: (n,), (n,) of bool -> sum of precision times the step in recall.

    Pictures with equal scores count together, as in scikit-learn. None if no picture is positive.
    """
    total = int(positive.sum())
    if not total:
        return None
    order = scores.argsort(descending=True, stable=True)
    ranked, hit = scores[order], positive[order].double()
    last_of_ties = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    hits = hit.cumsum(0)[last_of_ties]
    precision = hits / (torch.arange(1, len(ranked) + 1).double()[last_of_ties])
    recall = hits / total
    return float((precision * recall.diff(prepend=recall.new_zeros(1))).sum())


def threshold_for(target: ThresholdTarget, scores: Tensor, positive: Tensor) -> float:
    """Pick a threshold: (n,), (n,) of bool -> halfway between two scores; 0.5 without positives.

    For a precision it is the lowest one that reaches it, or the one with the highest precision if none does; for a
    recall the highest one that reaches it; for F1 the best one, the closest to 0.5 of several. Equal scores stay
    together.
    """
    total = int(positive.sum())
    if not total:
        return 0.5
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order].double(), positive[order].double().cumsum(0)
    last_of_ties = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    ranked, hits, taken = ranked[last_of_ties], hits[last_of_ties], last_of_ties.nonzero().flatten() + 1
    thresholds = (ranked + torch.cat([ranked[1:], ranked.new_zeros(1)])) / 2
    if target.name == "recall":
        return float(thresholds[int((hits / total >= target.least - 1e-12).int().argmax())])
    scored = hits / taken if target.name == "precision" else 2 * hits / (taken + total)
    if target.name == "precision" and bool((scored >= target.least).any()):
        return float(thresholds[int((scored >= target.least).nonzero()[-1])])
    ties = scored >= scored.max() - 1e-12
    return float(thresholds[ties][(thresholds[ties] - 0.5).abs().argmin()])


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Compute the area under the ROC curve by ranks: (n,), (n,) of bool -> P(score of a positive > of a negative)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = float(ranks(scores)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def false_positive_rate(scores: Tensor, positive: Tensor, recall: float = 0.95) -> float:
    """Compute the share of negatives above the threshold that passes `recall` of the positives: (n,), (n,) of bool."""
    threshold = torch.quantile(scores[positive].double(), 1 - recall, interpolation="lower")
    return _mean((scores[~positive].double() >= threshold).double())


def ranks(values: Tensor) -> Tensor:
    """Rank values from 1, equal ones by their mean rank: (n,) -> (n,)."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Compute the correlation of ranks: (n,), (n,) -> -1..1; None where one of them is constant."""
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / scale if scale > 0 else None


def r2(actual: Tensor, predicted: Tensor) -> float | None:
    """Compute 1 - squared error / variance: (n,), (n,) -> at most 1; None where all numbers are the same."""
    spread = float((actual - actual.mean()).square().sum()) if len(actual) else 0.0
    return 1 - float((actual - predicted).square().sum()) / spread if spread > 0 else None


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0
