"""The layer in which own channels meet subscribed ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from snow.subscribe import FusionConv, Subscribed


@pytest.mark.parametrize(
    ("kernel", "stride", "bias"), [(1, 1, False), (1, 2, True), (3, 1, True), (3, 2, False), (5, 2, True)]
)
def test_it_is_a_convolution_over_both(kernel: int, stride: int, bias: bool) -> None:
    mix = FusionConv(3, 4, 4, 5, kernel, stride, bias)
    own, other = torch.randn(2, 3, 9, 9), torch.randn(2, 4, 9, 9)
    if mix.bias is not None:
        mix.bias.data.normal_()
    expected = functional.conv2d(torch.cat([own, other], 1), mix.weight, mix.bias, stride, kernel // 2)
    torch.testing.assert_close(mix(own, Subscribed(other, None)), expected, rtol=1e-4, atol=1e-5)
    assert (mix.bias is not None) == bias


def test_columns_name_the_weights() -> None:
    mix = FusionConv(2, 10, 3, 4)
    own, other, columns = torch.randn(1, 2, 3, 3), torch.randn(1, 3, 3, 3), torch.tensor([7, 0, 4])
    weight = torch.cat([mix.weight[:, :2], mix.weight[:, [9, 2, 6]]], 1)
    expected = functional.conv2d(torch.cat([own, other], 1), weight)
    torch.testing.assert_close(mix(own, Subscribed(other, columns)), expected, rtol=1e-4, atol=1e-5)


def test_keeping_columns_for_good_answers_to_the_bit() -> None:
    mix = FusionConv(2, 10, 3, 4, kernel=3, bias=True)
    own, other, columns = torch.randn(2, 2, 5, 5), torch.randn(2, 3, 5, 5), torch.tensor([1, 5, 9])
    expected = mix(own, Subscribed(other, columns))
    mix.keep(columns)
    assert mix.weight.shape == (4, 5, 3, 3)
    assert mix.weight.is_leaf
    assert mix.weight.requires_grad
    assert torch.equal(mix(own, Subscribed(other, None)), expected)


def test_initial_scale_counts_only_what_takes_part() -> None:
    """He et al.: as many inputs as meet at a time, not as many as there are slots."""
    mix = FusionConv(16, 512, 64, 256, kernel=3)
    assert mix.weight.std().item() == pytest.approx((2 / ((16 + 64) * 9)) ** 0.5, rel=0.01)


def test_own_channels_alone() -> None:
    mix = FusionConv(3, 0, 0, 5)
    own = torch.randn(2, 3, 4, 4)
    assert torch.equal(mix(own), functional.conv2d(own, mix.weight))
