"""The rivals of channel pooling: their outputs and their parameter counts (paper, Table 2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.subscribe import SUBSCRIPTIONS, ChannelStatistics, PoolingConfig, Subscription

N, K = 48, 6

LEARNED = {
    "channel_pooling": N,
    "conv1x1": N * K + 2 * K,
    "channel_attention": (N * 6 + 6) + (6 * N + N),
    "all": 0,
}
EXPORTED = LEARNED | {"channel_pooling": K}
WIDTH = {"channel_pooling": K, "conv1x1": K, "channel_attention": N, "all": N}


@pytest.fixture(params=SUBSCRIPTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def subscription(name: str) -> Subscription:
    return SUBSCRIPTIONS[name].create(N, K, PoolingConfig())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, N, 4, 4)


def count(subscription: Subscription) -> int:
    return sum(value.numel() for value in subscription.parameters())


def test_every_subscription_is_expected() -> None:
    assert set(SUBSCRIPTIONS) == set(LEARNED)


def test_parameters_follow_their_formula(name: str, subscription: Subscription) -> None:
    assert count(subscription) == LEARNED[name]
    assert count(subscription.export_form()[0]) == EXPORTED[name]


def test_shape(name: str, subscription: Subscription, x: Tensor) -> None:
    assert subscription(x).features.shape == (3, WIDTH[name], 4, 4)
    assert subscription.channels == N
    assert subscription.width == WIDTH[name]
    assert subscription.weight_columns == (N if name == "channel_pooling" else WIDTH[name])


def test_final_features_are_a_map_of_one_place(subscription: Subscription) -> None:
    assert subscription.eval()(torch.randn(2, N, 1, 1)).features.shape[2:] == (1, 1)


def test_exported_and_rebuilt_answer_as_eval(
    name: str, subscription: Subscription, x: Tensor, make_statistics: Callable[[Tensor, Tensor], ChannelStatistics]
) -> None:
    subscription.calibrate(make_statistics(torch.rand(N) + 0.5, torch.rand(N)))
    for progress in (0.0, 0.5, 1.0):
        subscription.set_progress(progress)
        subscription.train()(x)
    expected = subscription.eval()(x).features
    exported, _ = subscription.export_form()
    assert torch.equal(exported.eval()(x).features, expected)
    rebuilt = SUBSCRIPTIONS[name].create_exported(N, K, PoolingConfig())
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt.eval()(x).features, expected)


def test_all_learned_gets_a_gradient(subscription: Subscription, x: Tensor) -> None:
    (subscription(x.requires_grad_()).scaled * torch.randn(1)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in subscription.parameters())


def test_all_channels_is_the_identity(x: Tensor) -> None:
    assert torch.equal(SUBSCRIPTIONS["all"].create(N, K, PoolingConfig())(x).features, x)


def test_conv1x1_mixes_normalises_and_rectifies(x: Tensor) -> None:
    subscription = SUBSCRIPTIONS["conv1x1"].create(N, K, PoolingConfig())
    mixed = torch.einsum("kn,bnhw->bkhw", subscription.conv.weight[:, :, 0, 0], x)
    centred = mixed - mixed.mean((0, 2, 3), keepdim=True)
    expected = (centred / (mixed.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()).relu()
    torch.testing.assert_close(subscription.train()(x).features, expected, rtol=1e-4, atol=1e-5)


def test_attention_scales_each_channel_by_a_factor_between_0_and_1(x: Tensor) -> None:
    subscription = SUBSCRIPTIONS["channel_attention"].create(N, K, PoolingConfig())
    ratio = subscription(x).scaled / x
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    pooled = [subscription.excite(subscription.squeeze(value).relu()) for value in (x.mean((2, 3)), x.amax((2, 3)))]
    torch.testing.assert_close(ratio[:, :, 0, 0], sum(pooled).sigmoid())


def test_each_is_final_or_abstract() -> None:
    assert inspect.isabstract(Subscription)
    for kind in SUBSCRIPTIONS.values():
        assert not inspect.isabstract(kind)
        assert not kind.__subclasses__()
