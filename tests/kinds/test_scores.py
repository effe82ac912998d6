"""Figures against values computed by hand, and against scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from snow.errors import SnowError
from snow.kinds import ThresholdTarget, scores

CONFUSION = torch.tensor([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
"""Four pictures of class 0, two of class 1, none of class 2."""


def test_balanced_accuracy_by_hand() -> None:
    assert scores.balanced_accuracy(CONFUSION) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_macro_f1_by_hand() -> None:
    assert scores.macro_f1(CONFUSION) == pytest.approx((2 * 3 / (4 + 4) + 2 * 1 / (2 + 2)) / 2)


def test_average_precision_by_hand() -> None:
    ranked = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert scores.average_precision(ranked, torch.tensor([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert scores.average_precision(ranked, torch.zeros(4, dtype=torch.bool)) is None
    assert scores.average_precision(torch.zeros(4), torch.tensor([True, False, False, False])) == 0.25


def test_calibration_error_by_hand() -> None:
    """Two pictures at 0.95, one right; two at 0.55, both right."""
    confidence = torch.tensor([0.95, 0.95, 0.55, 0.55]).double()
    correct = torch.tensor([True, False, True, True])
    assert scores.calibration_error(confidence, correct) == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)


@pytest.mark.parametrize(
    ("target", "threshold"),
    [("f1", 0.25), ("precision=1", 0.6), ("precision=0.6", 0.25), ("recall=0.3", 0.6), ("recall=1", 0.25)],
)
def test_thresholds_by_hand(target: str, threshold: float) -> None:
    probabilities = torch.tensor([0.9, 0.3, 0.3, 0.2, 0.1])
    positive = torch.tensor([True, True, False, False, False])
    found = scores.threshold_for(ThresholdTarget.parse(target), probabilities, positive)
    assert found == pytest.approx(threshold)


def test_thresholds_where_a_target_cannot_be_reached() -> None:
    probabilities = torch.tensor([0.9, 0.3, 0.2, 0.1])
    assert scores.threshold_for(ThresholdTarget(), probabilities, torch.zeros(4, dtype=torch.bool)) == 0.5
    late = torch.tensor([False, True, True, False])
    best = scores.threshold_for(ThresholdTarget("precision", 0.9), probabilities, late)
    assert best == pytest.approx(0.15), "the best precision that there is"
    for wrong in ("f2", "precision", "recall=2", "precision=x", "f1=0.5"):
        with pytest.raises(SnowError, match="thresholds must be f1, or precision=P"):
            ThresholdTarget.parse(wrong)


def test_ranks_share_ties() -> None:
    assert scores.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_spearman_and_r2_by_hand() -> None:
    actual, predicted = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([1.0, 2.0, 30.0]).double()
    assert scores.spearman(actual, predicted) == pytest.approx(1.0)
    assert scores.spearman(actual, -predicted) == pytest.approx(-1.0)
    assert scores.spearman(actual, torch.ones(3)) is None
    assert scores.r2(actual, predicted) == pytest.approx(1 - 27**2 / 2)
    assert scores.r2(torch.ones(3), predicted) is None


def test_false_positives_at_95_percent_by_hand() -> None:
    values = torch.cat([torch.arange(100.0), torch.tensor([3.0, 5.0, 50.0, -1.0])])
    known = torch.arange(104) < 100
    assert scores.false_positive_rate(values, known) == 0.5  # the threshold is 4: 5 and 50 are above it


SCORED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30)


@given(SCORED)
def test_it_agrees_with_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    values, positive = torch.tensor([row[0] for row in rows]).double(), torch.tensor([row[1] for row in rows])
    if positive.any():
        expected = sk.average_precision_score(positive.numpy(), values.numpy())
        assert scores.average_precision(values, positive) == pytest.approx(expected)
    if positive.any() and not positive.all():
        assert scores.auroc(values, positive) == pytest.approx(sk.roc_auc_score(positive.numpy(), values.numpy()))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_classes_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    actual, predicted = np.array(rows).T
    confusion = torch.from_numpy(sk.confusion_matrix(actual, predicted, labels=range(4)))
    recalls = [np.mean(predicted[actual == label] == label) for label in np.unique(actual)]
    assert scores.balanced_accuracy(confusion) == pytest.approx(np.mean(recalls))
    assert scores.macro_f1(confusion) == pytest.approx(sk.f1_score(actual, predicted, average="macro"))


@given(SCORED)
def test_no_threshold_has_a_better_f1(rows: list[tuple[int, bool]]) -> None:
    values = torch.tensor([row[0] for row in rows]).double() / 6
    positive = torch.tensor([row[1] for row in rows])

    def f1(threshold: float) -> float:
        on = values >= threshold
        return float(scores.f1((on & positive).sum(), on.sum(), positive.sum()))

    if positive.any():
        best = f1(scores.threshold_for(ThresholdTarget(), values, positive))
        assert all(best >= f1(threshold) - 1e-6 for threshold in values.tolist())
