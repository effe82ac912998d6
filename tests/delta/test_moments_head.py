"""The moments of subscribed channels, and the head that reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snow.delta import Delta, DeltaPlan, SnowConfig
from snow.delta.moments_head import HALF_VARIANCE_PICTURES, MomentsHead
from snow.delta.plan import Level
from snow.source import FINAL, Features
from snow.subscribe import ChannelStatistics, SubscribedMap, moments

N, K, CLASSES = 12, 5, 3
PLAN = DeltaPlan("general", 8, 4, (Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1),), 8, 6, 2)

READING = SnowConfig(dropout=0.0, readout=1.0, rank=0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(40, N, 6, 6) * torch.linspace(1, 9, N).view(-1, 1, 1) + torch.arange(N).view(-1, 1, 1)


def statistics(x: Tensor) -> ChannelStatistics:
    return ChannelStatistics.from_moments([moments(x[:7]), moments(x[7:])], torch.arange(len(x)) % CLASSES)


def with_random_weights(readout: MomentsHead) -> MomentsHead:
    torch.nn.init.normal_(readout.weight)
    return readout


def test_moments_are_mean_and_deviation_over_space(x: Tensor) -> None:
    mean, deviation = moments(x).unbind(1)
    torch.testing.assert_close(mean, x.mean((2, 3)))
    torch.testing.assert_close(deviation, x.std((2, 3), correction=0), rtol=1e-3, atol=1e-3)
    assert moments(torch.full((2, 3, 1, 1), 5.0))[:, 1].max() < 0.02


def test_deviation_has_a_gradient_where_a_map_is_flat() -> None:
    flat = torch.ones(2, 3, 4, 4, requires_grad=True)
    moments(flat).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("pictures", [100, HALF_VARIANCE_PICTURES])
@pytest.mark.parametrize("amplitude", [1.0, 1e-3])
def test_calibrated_moments_have_one_scale_that_few_pictures_shrink(x: Tensor, pictures: int, amplitude: float) -> None:
    x = amplitude * x
    channel_statistics = statistics(x)
    readout = MomentsHead(N, 1, scale=0.5, dropout=0.0)
    channel_scale = (torch.rand(N) + 0.5) / amplitude
    readout.calibrate(
        ChannelStatistics(
            channel_statistics.std,
            channel_statistics.score,
            channel_statistics.moment_mean,
            channel_statistics.moment_std,
            pictures,
        ),
        channel_scale,
    )
    with torch.no_grad():
        columns = []
        for moment in range(2):
            for channel in range(N):
                readout.weight.zero_()[0, moment, channel] = 1
                columns.append(readout(SubscribedMap(x * channel_scale.view(-1, 1, 1), None)).flatten())
    outputs = torch.stack(columns)
    expected = 0.5 * (pictures / (pictures + HALF_VARIANCE_PICTURES)) ** 0.5
    torch.testing.assert_close(outputs.std(1, correction=0), torch.full((2 * N,), expected), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(outputs.mean(1), torch.zeros(2 * N), rtol=0, atol=1e-3)


def test_only_the_named_columns_take_part_and_are_kept(x: Tensor) -> None:
    readout = with_random_weights(MomentsHead(N, CLASSES, scale=1.0, dropout=0.0))
    readout.calibrate(statistics(x), torch.ones(N))
    columns = torch.tensor([1, 4, 5, 8, 11])
    selected = SubscribedMap(x[:, columns], columns)
    expected = readout(selected)
    with torch.no_grad():
        others = torch.ones(N, dtype=torch.bool).index_fill(0, columns, False)
        readout.weight[..., others] = 1e6
    assert torch.equal(readout(selected), expected)
    readout.keep(columns)
    assert readout.weight.shape == (CLASSES, 2, K)
    assert torch.equal(readout(SubscribedMap(x[:, columns], None)), expected)


def test_a_delta_adds_its_moments_heads(x: Tensor) -> None:
    torch.manual_seed(0)
    delta = Delta(PLAN, CLASSES, READING)
    delta.calibrate({"map": statistics(x), FINAL: statistics(torch.randn(40, 6, 1, 1))})
    features = Features(torch.randn(40, 3, 24, 24), {"map": x}, torch.randn(40, 6), torch.zeros(40, 2))
    assert delta.eval()(features).abs().max() == 0
    [readout] = delta.moments_heads()
    with_random_weights(readout)
    expected = delta(features)
    exported = delta.export_form()
    assert expected.abs().max() > 0
    assert torch.equal(exported(features), expected)
    assert next(iter(exported.moments_heads())).weight.shape == (CLASSES, 2, K)
    rebuilt = Delta(PLAN, CLASSES, READING, exported=True).eval()
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), expected)


@pytest.mark.parametrize("subscription", ["all", "conv1x1", "channel_attention"])
def test_every_subscription_can_be_read(x: Tensor, subscription: str) -> None:
    delta = Delta(PLAN, CLASSES, replace(READING, subscription=subscription))
    delta.calibrate({"map": statistics(x), FINAL: statistics(torch.randn(40, 6, 1, 1))})
    features = Features(torch.randn(40, 3, 24, 24), {"map": x}, torch.randn(40, 6), torch.zeros(40, 2))
    delta(features).square().sum().add(delta(features)[:, 0].sum()).backward()
    [readout] = delta.moments_heads()
    assert readout.weight.grad is not None
    assert readout.weight.grad.abs().max() > 0


def test_without_a_readout_the_classifier_is_the_paper_s() -> None:
    assert not list(Delta(PLAN, CLASSES, replace(READING, readout=0.0)).moments_heads())
