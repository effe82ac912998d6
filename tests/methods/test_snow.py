"""SNOW as a method: options, calibration, and what a task costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from labelled_features import FINAL, K, N, make_features
from torch import Tensor

from snow.delta import DeltaPlan, make_plan
from snow.delta.plan import Level
from snow.errors import SnowError
from snow.methods import METHODS, Snow, SnowConfig
from snow.methods.snow import EXPAND_LR_SCALE, READOUT_LR_SCALE
from snow.source import Source
from snow.subscribe import ChannelPooling, FusionConv, PoolingConfig


@pytest.fixture
def snow() -> Snow:
    level = Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1)
    return Snow(DeltaPlan("general", 8, 4, (level,), 16, FINAL, 2), 3, SnowConfig(start="zero").resolved(3))


def poolings(snow: Snow) -> list[ChannelPooling]:
    subscriptions = snow.delta.all_subscriptions()
    assert all(isinstance(subscription, ChannelPooling) for subscription in subscriptions)
    return subscriptions


def test_calibration_selects_the_channels_that_separate_the_classes(snow: Snow) -> None:
    labels = torch.arange(30) % 3
    snow.calibrate([(make_features(labels), labels)])
    level, final = poolings(snow)
    assert level.eval().topk_indices().tolist() == [2, 5, 7]
    assert final.eval().topk_indices().tolist() == [1, 8]


def test_calibration_does_not_depend_on_the_batches(snow: Snow) -> None:
    labels = torch.arange(30) % 3
    features = make_features(labels)
    snow.calibrate([(features, labels)])
    expected = [(pooling.weight.clone(), pooling.gain.clone()) for pooling in poolings(snow)]
    batches = [(0, 7), (7, 8), (8, 30)]
    snow.calibrate((features.rows(start, stop), labels[start:stop]) for start, stop in batches)
    for pooling, (weight, gain) in zip(poolings(snow), expected, strict=True):
        assert torch.equal(pooling.weight.argsort(), weight.argsort())
        torch.testing.assert_close(pooling.gain, gain)


def test_gain_is_the_spread_over_pictures_and_places(snow: Snow) -> None:
    labels = torch.arange(30) % 3
    features = make_features(labels)
    features.maps["map"] *= torch.linspace(1, 3, N).view(-1, 1, 1)
    snow.calibrate([(features, labels)])
    level, final = poolings(snow)
    torch.testing.assert_close(level.gain, 1 / features.maps["map"].std((0, 2, 3), correction=0))
    torch.testing.assert_close(final.gain, 1 / features.final.std(0, correction=0))


@pytest.mark.parametrize("value", [0.0, 3.7, -1e4])
def test_a_channel_that_never_changes_is_not_chosen_before_one_that_does(snow: Snow, value: float) -> None:
    """Its rounding errors can separate the classes perfectly."""
    labels = torch.arange(30) % 3
    features = make_features(labels)
    silent = [0, 1, 3, 4, 6, 8, 9, 10]
    features.maps["map"][:, silent] = value
    snow.calibrate([(features, labels)])
    level = poolings(snow)[0]
    assert level.eval().topk_indices().tolist() == [2, 5, 7]
    assert level.gain.isfinite().all()
    assert snow.train()(features).isfinite().all()


def test_pictures_without_a_label_do_not_count_for_the_score(snow: Snow) -> None:
    labels = torch.arange(30) % 3
    features, noise = make_features(labels), make_features(torch.full((60,), -1), seed=1)
    noise.maps["map"][:, 0] += 100
    snow.calibrate([(features, labels), (noise, torch.full((60,), -1))])
    assert poolings(snow)[0].eval().topk_indices().tolist() == [2, 5, 7]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("labels", [[1], [-1, -1], [0, 0, 0], [0, 1]])
def test_a_poor_sample_still_gives_numbers(snow: Snow, labels: list[int], rank: int) -> None:
    snow = Snow(snow.plan, 3, SnowConfig(rank=rank).resolved(3))
    features = make_features(torch.tensor(labels))
    snow.calibrate([(features, torch.tensor(labels))])
    for pooling in poolings(snow):
        assert pooling.weight.isfinite().all()
        assert pooling.gain.isfinite().all()
        assert pooling.gain.max() < 1e4
    assert all(value.isfinite().all() for value in snow.state_dict().values())
    assert snow.eval()(features).isfinite().all()


def test_both_matrices_of_the_low_rank_head_have_learning_rates_of_their_own(snow: Snow) -> None:
    low_rank = Snow(snow.plan, 3, SnowConfig(rank=1).resolved(3))
    rates = {name: low_rank.parameter_lr_scale(name) for name, _ in low_rank.named_parameters()}
    assert {name for name in rates if rates[name] == READOUT_LR_SCALE} == {
        "delta.directions.readouts.0.weight",
        "delta.directions.readouts.1.weight",
    }
    assert [name for name in rates if rates[name] == EXPAND_LR_SCALE] == ["delta.directions.expand.weight"]
    assert all(snow.parameter_lr_scale(name) == 1 for name, _ in snow.named_parameters())


def test_a_task_that_was_saved_before_there_were_readouts_or_directions_is_as_it_was(source: Source) -> None:
    for options, later in (({"readout": 0.0, "rank": 0}, ("readout", "rank")), ({"rank": 0}, ("rank",))):
        snow = Snow.build(source, 99, options).export_form()
        config = {**snow.config, "options": {k: v for k, v in snow.config["options"].items() if k not in later}}
        Snow.rebuild(source, 99, config).load_state_dict(snow.state_dict())
    assert Snow.build(source, 99, {"rank": 8}).delta.directions is not None
    assert SnowConfig(start="zero").resolved(3).rank == 128


def test_calibration_draws_no_gradient(snow: Snow) -> None:
    labels = torch.arange(6) % 3
    snow.calibrate([(make_features(labels), labels)])
    assert all(value.requires_grad and value.grad is None and value.is_leaf for value in snow.parameters())


def test_dropout_ends_with_training(snow: Snow) -> None:
    features = make_features(torch.arange(6) % 3)
    torch.nn.init.normal_(snow.delta.classifier.weight)
    snow.set_progress(1.0)
    assert not torch.equal(snow.train()(features), snow(features))
    assert torch.equal(snow.eval()(features), snow(features))


def test_what_a_task_costs(source: Source) -> None:
    """All of the delta, and K scales per pooling: nothing of size N."""
    snow = Snow.build(source, 7, {"start": "zero"})
    exported_scales = sum(level.keep for level in snow.plan.levels) + snow.plan.final_keep
    consumers = [*((pooling, block) for _, pooling, block in snow.delta.levels())]
    columns = sum(
        layer.weight[:, layer.own : layer.own + pooling.weight_columns - pooling.width].numel()
        for pooling, block in [*consumers, (snow.delta.final, snow.delta.classifier)]
        for layer in block.modules()
        if isinstance(layer, FusionConv)
    )
    columns += sum(2 * 7 * (level.channels - level.keep) for level in snow.plan.levels)
    scalars = sum(level.channels for level in snow.plan.levels) + snow.plan.final
    trained = sum(value.numel() for value in snow.parameters())
    assert snow.learned_parameters == trained - scalars - columns + exported_scales
    assert snow.learned_parameters < trained


def test_more_is_kept_when_asked_for(source: Source) -> None:
    counts = [Snow.build(source, 7, {"keep": keep}).learned_parameters for keep in (1 / 16, 1 / 8, 1 / 2, 1.0)]
    assert counts == sorted(set(counts))
    assert Snow.build(source, 7, {"width": 1.0}).learned_parameters > Snow.build(source, 7).learned_parameters


def test_many_classes_want_more_channels(source: Source) -> None:
    few, many = (Snow.build(source, classes, {"rank": 9}) for classes in (9, 10))
    for snow, ratio, final in ((few, 1 / 8, 1 / 2), (many, 1 / 4, 1 / 8)):
        assert (snow.options.keep, snow.options.final_keep) == (ratio, final)
        assert snow.plan == make_plan(
            source, snow.options.width, ratio, final, snow.options.finest, snow.options.patchify
        )
    explicit = Snow.build(source, 10, {"rank": 9, "keep": 1 / 16})
    assert (explicit.options.keep, explicit.options.final_keep) == (1 / 16, 1 / 8)
    assert SnowConfig.paper().resolved(1000) == SnowConfig.paper()


def test_maps_finer_than_asked_for_are_left_out(source: Source) -> None:
    strides = {tap.name: tap.stride for tap in source.taps}
    for finest in (1, 4, 8):
        snow = Snow.build(source, 3, {"finest": finest})
        assert all(strides[tap] >= finest for tap in snow.taps) or not any(s >= finest for s in strides.values())


def test_a_task_that_does_not_say_has_a_stem_like_the_source_s(source: Source) -> None:
    old = Snow.build(source, 3, {"patchify": False}).export_form()
    plan = {name: value for name, value in old.config["plan"].items() if name != "patchify"}
    options = {name: value for name, value in old.config["options"].items() if name != "patchify"}
    rebuilt = Snow.rebuild(source, 3, {"plan": plan, "options": options})
    assert rebuilt.config == old.config
    rebuilt.load_state_dict(old.state_dict())


def test_the_paper_s_configuration() -> None:
    config = SnowConfig.paper(1e-8)
    assert (config.width, config.keep, config.final_keep, config.dropout) == (1 / 8, 1 / 8, 1 / 8, 0.0)
    assert config.readout == config.rank == 0
    assert not config.patchify
    assert config.pooling == PoolingConfig(1e-8, slots="index", init="ones", settle=0.0, rescale=False)


def test_options_come_by_name_nested_or_whole(resnet: Source) -> None:
    for pooling in ({"sigma2": 0.5, "slots": "index"}, PoolingConfig(0.5, "index")):
        snow = METHODS["snow"].build(resnet, 3, {"keep": 0.25, "pooling": pooling})
        assert snow.options == SnowConfig(keep=0.25, pooling=PoolingConfig(0.5, "index")).resolved(3)
    config = SnowConfig(width=0.5, subscription="all")
    assert SnowConfig.from_dict(asdict(config)) == config
    assert SnowConfig.from_dict({"preset": "paper", "pooling": {"sigma2": 1e-8}}) == SnowConfig.paper(1e-8)
    wider = SnowConfig.from_dict({"preset": "paper", "width": 0.25})
    assert wider == replace(SnowConfig.paper(), width=0.25)
    assert SnowConfig.from_dict({}) == SnowConfig()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, r"width is a ratio in \(0, 1\], not 0"),
        ({"keep": 1.5}, r"keep is a ratio"),
        ({"final_keep": -1}, r"final_keep is a ratio"),
        ({"dropout": 1.0}, r"dropout is a probability in \[0, 1\), not 1"),
        ({"readout": -0.1}, r"readout is a scale, zero or more, not -0.1"),
        ({"rank": -1}, r"rank is a number of directions, zero or more, not -1"),
        ({"subscription": "newspaper"}, "no subscription 'newspaper': there are channel_pooling, conv1x1"),
        ({"preset": "best"}, "no preset 'best': there are default, paper"),
        ({"depth": 3}, "no option 'depth': there are width, keep"),
        ({"pooling": {"sigma": 3}}, "no option 'sigma': there are sigma2, slots"),
        ({"pooling": {"slots": "x"}}, "slots is one of channel, index"),
    ],
)
def test_impossible_options_are_one_line(resnet: Source, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SnowError, match=message):
        Snow.build(resnet, 3, options)


def test_taps_are_those_of_the_plan(source: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    snow = Snow.build(source, 3)
    assert snow.taps == {level.tap for level in snow.plan.levels}
    assert source.taps[-1].name not in snow.taps
    assert snow(source(draw(2)[0], snow.taps)).shape == (2, 3)
