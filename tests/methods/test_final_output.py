"""The linear probe."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snow.methods import FinalOutput
from snow.source import Features, Source


def make_features(final: Tensor) -> Features:
    return Features(torch.zeros(len(final), 3, 1, 1), {}, final, torch.zeros(len(final), 1))


def test_it_is_a_linear_classifier_over_scaled_final_features() -> None:
    method = FinalOutput(5, 3)
    final = torch.randn(20, 5) * torch.tensor([0.3, 0.5, 1.0, 2.0, 4.0])
    method.calibrate([(make_features(final[:7]), torch.zeros(7)), (make_features(final[7:]), torch.zeros(13))])
    torch.testing.assert_close(method.gain * final.std(0, correction=0), torch.ones(5))
    torch.nn.init.normal_(method.classifier.weight)
    torch.nn.init.normal_(method.classifier.bias)
    expected = (final / final.std(0, correction=0)) @ method.classifier.weight.T + method.classifier.bias
    torch.testing.assert_close(method(make_features(final)), expected)


def test_it_costs_a_weight_for_each_feature_and_class(source: Source) -> None:
    method = FinalOutput.build(source, 7)
    assert method.learned_parameters == source.num_features * 7 + 7
    assert method.taps == frozenset()


@pytest.mark.parametrize("final", [torch.zeros(1, 4), torch.ones(1, 4), torch.full((9, 4), 3.0), torch.zeros(9, 4)])
def test_a_sample_without_any_spread_scales_nothing(final: Tensor) -> None:
    method = FinalOutput(4, 2)
    method.calibrate([(make_features(final), torch.zeros(len(final)))])
    assert method.gain.tolist() == [1.0] * 4


def test_a_feature_that_is_silent_in_the_sample_is_not_blown_up() -> None:
    method = FinalOutput(4, 2)
    final = torch.randn(50, 4)
    final[:, 2] = 0
    method.calibrate([(make_features(final), torch.zeros(50))])
    assert method.gain.isfinite().all()
    assert method.gain[2] <= 150 * method.gain[[0, 1, 3]].max()
