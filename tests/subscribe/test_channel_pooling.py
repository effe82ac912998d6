"""Channel pooling against Algorithm 1: what passes, what learns, what the noise does, what is exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from snow.errors import SnowError
from snow.subscribe import ChannelPooling, ChannelStatistics, FusionConv, PoolingConfig, SubscribedMap, gather_channels
from snow.subscribe.frozen_selection import ExportedPooling

MakeStatistics = Callable[[Tensor, Tensor], ChannelStatistics]


@st.composite
def poolings(draw: st.DrawFn) -> tuple[ChannelPooling, Tensor]:
    """Any pooling without norm and relu, with any weights, and a map for it."""
    channels = draw(st.integers(1, 40))
    keep = draw(st.integers(1, channels))
    config = PoolingConfig(
        sigma2=draw(st.sampled_from([0.0, 1e-8, 1e-3, 1.0])), slots=draw(st.sampled_from(["channel", "index"]))
    )
    torch.manual_seed(draw(st.integers(0, 10_000)))
    pooling = ChannelPooling(channels, keep, config)
    pooling.weight.data.normal_(0, draw(st.sampled_from([1e-6, 1.0, 1e6])))
    pooling.gain.uniform_(0.1, 10)
    side = draw(st.integers(1, 3))
    return pooling, torch.randn(draw(st.integers(1, 3)), channels, side, side)


def make_pooling(channels: int = 32, keep: int = 8, spread: float = 0.3, **options: Any) -> ChannelPooling:
    """Make a pooling with weights that differ."""
    pooling = ChannelPooling(channels, keep, PoolingConfig(**options))
    nn.init.normal_(pooling.weight, 1.0, spread)
    return pooling


def algorithm_1(x: Tensor, w: Tensor, keep: int, noise: Tensor | None) -> Tensor:
    """Follow the paper's pseudocode channel by channel, in the order of the index."""
    v = w if noise is None else w + noise
    best = sorted(range(len(w)), key=lambda channel: -v[channel].item())[:keep]
    return torch.stack([x[:, channel] * w[channel] for channel in sorted(best)], 1)


@given(poolings())
def test_eval_passes_the_top_k_scaled(case: tuple[ChannelPooling, Tensor]) -> None:
    pooling, x = case
    subscribed = pooling.eval()(x)
    y, columns = subscribed.scaled, subscribed.columns
    index = pooling.weight.topk(pooling.width).indices.sort().values
    assert torch.equal(y, x[:, index] * (pooling.weight * pooling.gain)[index].view(-1, 1, 1))
    if pooling.config.slots == "channel":
        assert columns is not None
        assert torch.equal(columns, index)
    else:
        assert columns is None


@given(poolings())
def test_training_passes_k_distinct_channels_in_ascending_order(case: tuple[ChannelPooling, Tensor]) -> None:
    pooling, x = case
    index = pooling.train().topk_indices()
    assert index.shape == (pooling.width,)
    assert (index.diff() > 0).all()
    assert index.min() >= 0
    assert index.max() < pooling.channels
    assert pooling(x).scaled.shape == (len(x), pooling.width, *x.shape[2:])


@given(poolings())
def test_gradient_reaches_exactly_the_scalars_that_took_part(case: tuple[ChannelPooling, Tensor]) -> None:
    pooling, x = case
    torch.manual_seed(1)
    index = pooling.train().topk_indices()
    torch.manual_seed(1)
    y = pooling(x).scaled
    y.sum().backward()
    gradient = pooling.weight.grad
    assert gradient is not None
    others = torch.ones(pooling.channels, dtype=torch.bool)
    others[index] = False
    assert (gradient[others] == 0).all()
    torch.testing.assert_close(gradient[index], (x.sum((0, 2, 3)) * pooling.gain)[index])


@given(poolings())
def test_exported_is_eval_to_the_bit_and_holds_nothing_of_size_n(case: tuple[ChannelPooling, Tensor]) -> None:
    pooling, x = case
    subscribed = pooling.eval()(x)
    expected, columns = subscribed.scaled, subscribed.columns
    exported, kept = pooling.export_form()
    assert torch.equal(exported(x).scaled, expected)
    assert exported(x).columns is None
    assert (columns is None and kept is None) or torch.equal(columns, kept)
    assert (exported.channels, exported.width, exported.weight_columns) == (
        pooling.channels,
        pooling.width,
        pooling.width,
    )
    assert all(value.numel() == pooling.width for value in exported.state_dict().values())
    assert {name for name, _ in exported.named_parameters()} == {"scale"}
    rebuilt = ChannelPooling.create_exported(pooling.channels, pooling.width, pooling.config)
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(x).scaled, expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_literal_form_is_algorithm_1(training: bool) -> None:
    pooling = ChannelPooling(32, 8, PoolingConfig.literal(0.01)).train(training)
    assert pooling.weight.tolist() == [1.0] * 32
    x = torch.randn(2, 32, 3, 3)
    for step in range(20):
        torch.manual_seed(step)
        noise = 0.1 * torch.randn(32) if training else None
        torch.manual_seed(step)
        subscribed = pooling(x)
        y, columns = subscribed.scaled, subscribed.columns
        assert columns is None
        if training:
            assert torch.equal(y, algorithm_1(x, pooling.weight, 8, noise))
        nn.init.normal_(pooling.weight, 1.0, 0.2)
        torch.manual_seed(step)
        assert torch.equal(pooling(x).scaled, algorithm_1(x, pooling.weight, 8, noise))


def test_noise_decides_who_passes_but_not_the_scale() -> None:
    """Algorithm 1 multiplies by the clean weight."""
    pooling = make_pooling(sigma2=100.0)
    x = torch.randn(1, 32, 2, 2)
    for seed in range(10):
        torch.manual_seed(seed)
        index = pooling.topk_indices()
        torch.manual_seed(seed)
        assert torch.equal(pooling(x).scaled, x[:, index] * pooling.weight[index].view(-1, 1, 1))


@pytest.mark.parametrize(("sigma2", "fraction"), [(1e-3, 0.0), (1e-2, 0.0), (1e-3, 0.25), (1e-3, 0.4)])
def test_noise_has_the_variance_it_says(sigma2: float, fraction: float) -> None:
    """The weaker of two channels wins as often as two independent normals say; noise falls linearly until 0.5."""
    pooling = ChannelPooling(2, 1, PoolingConfig(sigma2, init="ones", settle=0.5))
    pooling.set_progress(fraction)
    std = (1 - fraction / 0.5) * math.sqrt(sigma2)
    gap = 0.7 * std
    pooling.weight.data = torch.tensor([1.0, 1.0 + gap])
    wins = sum(int(pooling.topk_indices().item() == 0) for _ in range(3000)) / 3000
    expected = 0.5 * math.erfc(gap / (math.sqrt(2) * std) / math.sqrt(2))
    assert wins == pytest.approx(expected, abs=0.035)


def test_noise_is_drawn_anew_and_repeats_with_the_seed() -> None:
    pooling = ChannelPooling(64, 8, PoolingConfig(init="ones"))
    torch.manual_seed(3)
    first = [pooling.topk_indices().tolist() for _ in range(5)]
    torch.manual_seed(3)
    assert [pooling.topk_indices().tolist() for _ in range(5)] == first
    assert len(set(map(tuple, first))) == 5
    pooling.eval()
    assert len({tuple(pooling.topk_indices().tolist()) for _ in range(5)}) == 1


def test_noise_settles_and_is_constant_if_it_must_not() -> None:
    pooling = make_pooling(settle=0.5)
    x = torch.randn(1, 32, 2, 2)
    pooling.set_progress(0.499)
    assert pooling.noise > 0
    for fraction in (0.5, 0.9, 1.0):
        pooling.set_progress(fraction)
        assert pooling.noise == 0
        assert torch.equal(pooling.train()(x).scaled, pooling.eval()(x).scaled)
    pooling.set_progress(0.0)
    assert pooling.noise == pytest.approx(math.sqrt(1e-3))
    literal = ChannelPooling(32, 8, PoolingConfig.literal())
    for fraction in (0.0, 0.5, 1.0):
        literal.set_progress(fraction)
        assert literal.noise == pytest.approx(math.sqrt(1e-3))


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_channel_meets_the_same_weights_wherever_it_stands(kernel: int) -> None:
    """slots="channel": the layer behind answers alike whatever the order, and as a full convolution over zeros."""
    pooling = make_pooling(slots="channel").eval()
    fusion = FusionConv(4, pooling.weight_columns, pooling.width, 6, kernel)
    x, own = torch.randn(2, 32, 5, 5), torch.randn(2, 4, 5, 5)
    subscribed = pooling(x)
    y = fusion(own, subscribed)
    order = torch.randperm(8)
    assert not torch.equal(order, torch.arange(8))
    permuted = SubscribedMap(subscribed.features[:, order], subscribed.columns[order], subscribed.scale[order])
    torch.testing.assert_close(fusion(own, permuted), y, rtol=1e-4, atol=1e-5)
    scattered = torch.zeros_like(x)
    scattered[:, subscribed.columns] = subscribed.scaled
    full = nn.functional.conv2d(torch.cat([own, scattered], 1), fusion.weight, padding=kernel // 2)
    torch.testing.assert_close(y, full, rtol=1e-4, atol=1e-5)
    wrong = subscribed._replace(features=subscribed.features[:, order])
    assert not torch.allclose(fusion(own, wrong), y, rtol=1e-4, atol=1e-5)


def test_with_slots_by_index_a_channel_s_weights_depend_on_who_else_passes() -> None:
    """Why the naive reading learns so little: the same channel moves to another slot."""
    pooling = make_pooling(4, 2, slots="index").eval()
    fusion = FusionConv(1, pooling.weight_columns, pooling.width, 1)
    x = torch.zeros(1, 4, 1, 1)
    x[0, 2] = 1
    answers = []
    for weight in ([0.0, 3.0, 1.0, 0.0], [0.0, 0.0, 1.0, 3.0]):
        pooling.weight.data = torch.tensor(weight)
        answers.append(fusion(torch.zeros(1, 1, 1, 1), pooling(x)).item())
    assert answers[0] != answers[1]


@given(poolings())
def test_only_the_columns_of_chosen_channels_learn(case: tuple[ChannelPooling, Tensor]) -> None:
    pooling, x = case
    fusion = FusionConv(2, pooling.weight_columns, pooling.width, 3)
    torch.manual_seed(1)
    index = pooling.train().topk_indices()
    torch.manual_seed(1)
    fusion(torch.ones(len(x), 2, *x.shape[2:]), pooling(x)).square().sum().backward()
    assert fusion.weight.grad is not None
    moved = fusion.weight.grad[:, 2:].abs().sum((0, 2, 3)) > 0
    assert moved.sum() <= pooling.width
    if pooling.config.slots == "channel":
        assert set(moved.nonzero().flatten().tolist()) <= set(index.tolist())


@given(st.integers(2, 60), st.integers(0, 1000), st.data())
def test_scores_decide_the_first_choice(
    make_statistics: MakeStatistics, channels: int, seed: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1, channels))
    generator = torch.Generator().manual_seed(seed)
    score = torch.randperm(channels, generator=generator).float() ** 3  # any scale: only the order counts
    pooling = ChannelPooling(channels, keep, PoolingConfig(init="score"))
    pooling.calibrate(make_statistics(torch.ones(channels), score))
    best = score.topk(keep).indices.sort().values
    assert torch.equal(pooling.eval().topk_indices(), best)
    assert torch.equal(pooling.weight.argsort(), score.argsort())


def test_scored_weights_are_spread_as_normal_ones(make_statistics: MakeStatistics) -> None:
    pooling = ChannelPooling(1001, 10, PoolingConfig(init="score", spread=0.3))
    pooling.calibrate(make_statistics(torch.ones(1001), torch.rand(1001)))
    assert pooling.weight.mean().item() == pytest.approx(1.0, abs=1e-4)
    assert pooling.weight.std().item() == pytest.approx(0.3, rel=0.02)


def test_calibration_scales_channels_to_unit_spread(make_statistics: MakeStatistics) -> None:
    pooling = ChannelPooling(8, 8, PoolingConfig(init="ones", sigma2=0.0))
    x = torch.randn(64, 8, 4, 4) * torch.logspace(-0.5, 0.5, 8).view(-1, 1, 1)
    pooling.calibrate(make_statistics(x.std((0, 2, 3)), torch.ones(8)))
    torch.testing.assert_close(pooling.eval()(x).scaled.std((0, 2, 3)), torch.ones(8))


@pytest.mark.parametrize("std", [[0.0, 1.0, 2.0, 3.0], [1e-30, 1.0, 1.0, 1.0], [0.0] * 4, [0.0, 0.0, 0.0, 1e-20]])
def test_channels_silent_in_calibration_do_not_blow_up(std: list[float], make_statistics: MakeStatistics) -> None:
    """A picture later wakes what was silent in the sample: with a gain of 1/0 it would drown all others."""
    pooling = ChannelPooling(4, 4, PoolingConfig())
    pooling.calibrate(make_statistics(torch.tensor(std), torch.zeros(4)))
    assert pooling.gain.isfinite().all()
    assert pooling.weight.isfinite().all()
    typical = torch.tensor(std)[torch.tensor(std) > 0].mean() if sum(std) > 1e-15 else torch.tensor(1.0)
    assert (pooling.gain * typical <= 40).all()


def test_without_calibration_options_weights_and_scales_stay(make_statistics: MakeStatistics) -> None:
    pooling = ChannelPooling(16, 4, PoolingConfig(init="ones", rescale=False))
    pooling.calibrate(make_statistics(torch.rand(16), torch.rand(16)))
    assert pooling.weight.tolist() == [1.0] * 16
    assert pooling.gain.tolist() == [1.0] * 16


@pytest.mark.parametrize(("norm", "relu"), [(True, False), (False, True), (True, True)])
def test_batchnorm_and_relu_behind_the_pooling(norm: bool, relu: bool) -> None:
    pooling = make_pooling(slots="index", norm=norm, relu=relu, sigma2=0.0)
    x = torch.randn(16, 32, 4, 4)
    for _ in range(3):
        y = pooling.train()(x).scaled
    if norm and not relu:
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), unbiased=False), torch.ones(8), atol=1e-3, rtol=0)
    assert bool((y >= 0).all()) == relu
    exported, _ = pooling.export_form()
    assert torch.equal(exported.eval()(x).scaled, pooling.eval()(x).scaled)
    rebuilt = ExportedPooling.create(32, 8, pooling.config).eval()
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(x).scaled, pooling(x).scaled)


def test_serving_again_changes_nothing() -> None:
    exported, _ = make_pooling().export_form()
    again, columns = exported.export_form()
    assert columns is None
    x = torch.randn(1, 32, 2, 2)
    assert torch.equal(again(x).scaled, exported(x).scaled)


def test_parameters_are_one_scalar_a_channel() -> None:
    for channels, keep in ((1, 1), (64, 8), (2048, 256)):
        assert sum(value.numel() for value in ChannelPooling(channels, keep).parameters()) == channels


def test_a_half_precision_map_stays_one() -> None:
    pooling = make_pooling()
    x = torch.randn(1, 32, 2, 2, dtype=torch.bfloat16)
    assert pooling(x).scaled.dtype == torch.bfloat16
    assert pooling.export_form()[0](x).scaled.dtype == torch.bfloat16


@pytest.mark.parametrize("keep", [0, -1, 9])
def test_an_impossible_k_is_one_line(keep: int) -> None:
    with pytest.raises(SnowError, match=f"can keep 1 to 8 of 8 channels, not {keep}"):
        ChannelPooling(8, keep)


@pytest.mark.parametrize(
    "options",
    [
        {"slots": "random"},
        {"init": "zeros"},
        {"norm": True, "slots": "channel"},
        {"sigma2": -1e-9},
        {"spread": -1.0},
        {"settle": 1.1},
        {"settle": -0.1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SnowError, match=r"channel pooling"):
        PoolingConfig(**options)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_taking_channels_keeps_their_order_and_the_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 6, 5, 4).to(memory_format=layout)
    y = gather_channels(x, torch.tensor([5, 0, 3], dtype=torch.int32))
    assert torch.equal(y, x[:, [5, 0, 3]])
    assert y.is_contiguous(memory_format=layout)
