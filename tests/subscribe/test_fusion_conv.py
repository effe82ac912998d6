"""The layer that fuses own and subscribed channels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from snow.subscribe import FusionConv, SubscribedMap


@pytest.mark.parametrize(
    ("kernel", "stride", "bias"), [(1, 1, False), (1, 2, True), (3, 1, True), (3, 2, False), (5, 2, True)]
)
def test_it_is_a_convolution_over_both(kernel: int, stride: int, bias: bool) -> None:
    fusion = FusionConv(3, 4, 4, 5, kernel, stride, bias)
    own, subscribed = torch.randn(2, 3, 9, 9), torch.randn(2, 4, 9, 9)
    if fusion.bias is not None:
        fusion.bias.data.normal_()
    expected = functional.conv2d(torch.cat([own, subscribed], 1), fusion.weight, fusion.bias, stride, kernel // 2)
    torch.testing.assert_close(fusion(own, SubscribedMap(subscribed, None)), expected, rtol=1e-4, atol=1e-5)
    assert (fusion.bias is not None) == bias


def test_columns_name_the_weights() -> None:
    fusion = FusionConv(2, 10, 3, 4)
    own, subscribed, columns = torch.randn(1, 2, 3, 3), torch.randn(1, 3, 3, 3), torch.tensor([7, 0, 4])
    weight = torch.cat([fusion.weight[:, :2], fusion.weight[:, [9, 2, 6]]], 1)
    expected = functional.conv2d(torch.cat([own, subscribed], 1), weight)
    torch.testing.assert_close(fusion(own, SubscribedMap(subscribed, columns)), expected, rtol=1e-4, atol=1e-5)


def test_keeping_columns_for_good_answers_to_the_bit() -> None:
    fusion = FusionConv(2, 10, 3, 4, kernel=3, bias=True)
    own, subscribed, columns = torch.randn(2, 2, 5, 5), torch.randn(2, 3, 5, 5), torch.tensor([1, 5, 9])
    expected = fusion(own, SubscribedMap(subscribed, columns))
    fusion.keep(columns)
    assert fusion.weight.shape == (4, 5, 3, 3)
    assert fusion.weight.is_leaf
    assert fusion.weight.requires_grad
    assert torch.equal(fusion(own, SubscribedMap(subscribed, None)), expected)


def test_initial_scale_counts_only_what_takes_part() -> None:
    """He et al.: fan-in is the number of inputs that take part at a time, not the number of weight columns."""
    fusion = FusionConv(16, 512, 64, 256, kernel=3)
    assert fusion.weight.std().item() == pytest.approx((2 / ((16 + 64) * 9)) ** 0.5, rel=0.01)


def test_without_a_subscribed_map() -> None:
    fusion = FusionConv(3, 0, 0, 5)
    own = torch.randn(2, 3, 4, 4)
    assert torch.equal(fusion(own), functional.conv2d(own, fusion.weight))
