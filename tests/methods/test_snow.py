"""SNOW as a method: options, calibration, and what a task costs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from snow.delta import DeltaPlan, make_plan
from snow.delta.plan import Level
from snow.errors import SnowError
from snow.methods import METHODS, Snow, SnowConfig
from snow.methods.snow import EXPAND_LR_SCALE, READOUT_LR_SCALE
from snow.source import Features, Source
from snow.subscribe import ChannelPooling, FusionConv, PoolingConfig, moments

N, K, FINAL = 12, 3, 10


@pytest.fixture
def snow() -> Snow:
    level = Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1)
    return Snow(DeltaPlan("general", 8, 4, (level,), 16, FINAL, 2), 3, SnowConfig(start="zero").resolved(3))


def make_features(labels: Tensor, seed: int = 0) -> Features:
    """Make features whose classes differ in channels 2, 5 and 7 of the map, and 1 and 8 of the final features."""
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    x = torch.randn(count, N, 8, 8, generator=generator)
    final = torch.randn(count, FINAL, generator=generator)
    signal = labels.clamp(min=0).float()
    for channel in (2, 5, 7):
        x[:, channel] += signal.view(-1, 1, 1)
    for channel in (1, 8):
        final[:, channel] += 5 * signal
    return Features(torch.randn(count, 3, 32, 32, generator=generator), {"map": x}, final, torch.zeros(count, 2))


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


@pytest.fixture
def by_evidence() -> Snow:
    level = Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1)
    plan = DeltaPlan("general", 8, 4, (level,), 16, FINAL, 0)
    return Snow(plan, 3, SnowConfig().resolved(3), budget=10_000, answers=2)


def calibrate(snow: Snow, count: int = 30, views: int = 3, learned: Tensor | None = None) -> tuple[Features, Tensor]:
    """Calibrate by pictures that differ a little from view to view, and return new ones."""
    labels = torch.arange(count) % 3
    batches = []
    for view in range(views):
        features = make_features(labels)
        noise = 0.0 if view == 0 else 0.1
        features = features.map_tensors(lambda value, noise=noise: value + noise * torch.randn_like(value))
        batches += [(features.rows(start, start + 10), labels[start : start + 10]) for start in range(0, count, 10)]
    snow.calibrate_views(batches, views, learned)
    new = torch.arange(90) % 3
    return make_features(new, seed=9), new


def test_by_default_a_task_starts_by_evidence_unless_a_head_is_named(source: Source) -> None:
    assert Snow.build(source, 3).starts_by_evidence
    for options in ({"rank": 8}, {"readout": 0.5}, {"final_keep": 0.5}, {"start": "zero"}, {"preset": "paper"}):
        snow = Snow.build(source, 3, options)
        assert not snow.starts_by_evidence
        assert snow.readout is None
    with pytest.raises(SnowError, match="final_keep, readout and rank need start=zero"):
        Snow.build(source, 3, {"start": "evidence", "rank": 8})
    assert Snow.build(source, 3, {"start": "evidence"}).plan.final_keep == 0


def test_a_start_by_evidence_answers_before_the_first_step(by_evidence: Snow) -> None:
    features, labels = calibrate(by_evidence)
    logits = by_evidence.eval()(features)
    assert (logits.argmax(1) == labels).float().mean() > 0.7
    assert by_evidence.delta(features).abs().max() == 0, "the delta's own blocks add nothing yet"
    assert by_evidence.evidence["chosen"] in by_evidence.evidence["layouts"]


def test_before_calibration_it_is_a_linear_probe_of_all_final_features(by_evidence: Snow) -> None:
    features = make_features(torch.arange(6) % 3)
    assert by_evidence(features).abs().max() == 0
    by_evidence(features).square().sum().backward()
    assert by_evidence.readout is not None
    assert by_evidence.readout.weight.shape == (3, FINAL)


@pytest.mark.parametrize("labels", [[1] * 4, [-1] * 4, [0, 1], [0, 1, 2, -1]])
def test_a_poor_sample_gives_numbers_by_evidence_too(by_evidence: Snow, labels: list[int]) -> None:
    label = torch.tensor(labels)
    by_evidence.calibrate([(make_features(label), label)])
    assert by_evidence.eval()(make_features(label, seed=1)).isfinite().all()


def test_the_exported_start_answers_alike_and_comes_back(by_evidence: Snow, source: Source) -> None:
    features, _ = calibrate(by_evidence)
    torch.nn.init.normal_(by_evidence.delta.classifier.weight)
    exported = by_evidence.export_form()
    assert torch.equal(exported(features), by_evidence.eval()(features))
    assert not any("refit" in name for name in exported.state_dict())
    rebuilt = Snow.rebuild(source, 3, exported.config)
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), exported(features))
    exported.check_indices()
    assert exported.readout is not None
    exported.readout.index[0] = 10**6
    with pytest.raises(SnowError, match="an index of the readout"):
        exported.check_indices()


def test_moments_of_the_pass_or_of_whole_maps_are_the_same(by_evidence: Snow) -> None:
    features, _ = calibrate(by_evidence)
    by_evidence.freeze_selection()
    by_evidence.eval()
    assert by_evidence.moment_taps == {"map"}
    [index] = [index for tap, index in by_evidence.sample_channels().items() if tap == "map"]
    narrow = replace(
        features, maps={"map": features.maps["map"][:, index]}, moments={"map": moments(features.maps["map"])}
    )
    torch.testing.assert_close(by_evidence(narrow), by_evidence(features))


def test_a_fresh_method_takes_layout_and_tensors_of_a_calibrated_one(by_evidence: Snow) -> None:
    fresh = Snow(by_evidence.plan, 3, by_evidence.options)
    features, _ = calibrate(by_evidence, learned=torch.arange(30) > 5)
    layout = by_evidence.layout()
    assert layout is not None
    fresh.set_layout(json.loads(json.dumps(layout)))
    fresh.load_state_dict(by_evidence.state_dict())
    assert torch.equal(fresh.eval()(features), by_evidence.eval()(features))
    assert fresh.evidence == by_evidence.evidence


def test_the_conclusion_adds_the_refit_and_scales_what_was_trained(by_evidence: Snow) -> None:
    everything, copied = copy.deepcopy(by_evidence), copy.deepcopy(by_evidence)
    learned = torch.arange(30) % 5 > 0
    torch.manual_seed(0)
    features, _ = calibrate(by_evidence, learned=learned)
    torch.manual_seed(0)
    calibrate(everything)
    part = by_evidence.eval()(features)
    by_evidence.conclude(trained=False, scale=3.0)
    whole = by_evidence(features)
    torch.testing.assert_close(whole, everything.eval()(features), rtol=1e-3, atol=1e-3)
    assert by_evidence.delta is None
    assert not torch.allclose(part, whole, rtol=1e-2)
    torch.manual_seed(0)
    calibrate(copied, learned=learned)
    torch.nn.init.normal_(copied.delta.classifier.weight)
    added = copied.eval().delta(features)
    copied.conclude(trained=True, scale=3.0)
    torch.testing.assert_close(copied(features), 3 * (whole + added), rtol=1e-3, atol=1e-3)


def test_a_kept_start_has_no_delta(by_evidence: Snow, source: Source) -> None:
    features, _ = calibrate(by_evidence)
    expected = by_evidence.eval()(features)
    by_evidence.conclude(trained=False, scale=1.0)
    by_evidence.freeze_selection()
    by_evidence.set_progress(1.0)
    assert torch.equal(by_evidence(features), expected)
    assert by_evidence.taps == by_evidence.moment_taps
    assert by_evidence.sample_channels() == {"(final)": None}
    assert by_evidence.selected_mask()["(final)"].all()
    exported = by_evidence.export_form()
    rebuilt = Snow.rebuild(source, 3, json.loads(json.dumps(exported.config)))
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), expected)
    assert all(name.startswith("readout.") for name in rebuilt.state_dict())
    fresh = Snow(by_evidence.plan, 3, by_evidence.options)
    layout = by_evidence.layout()
    assert layout is not None
    fresh.set_layout(layout)
    fresh.load_state_dict(by_evidence.state_dict())
    assert torch.equal(fresh.eval()(features), expected)


def test_for_other_kinds_of_labels_it_starts_from_zero(by_evidence: Snow) -> None:
    targets = torch.stack([torch.arange(30) % 2, torch.arange(30) % 3 == 0, torch.ones(30)], 1).float()
    features = make_features(torch.arange(30) % 3)
    fresh = Snow(by_evidence.plan, 3, by_evidence.options)
    by_evidence.calibrate([(features, targets)])
    assert not by_evidence.starts_by_evidence
    assert by_evidence.readout is None
    assert by_evidence.evidence == {}
    assert by_evidence.options.readout == 1.0
    assert by_evidence.plan.final_keep == FINAL // 2
    layout = by_evidence.layout()
    assert layout is not None
    fresh.set_layout(layout)
    fresh.load_state_dict(by_evidence.state_dict())
    assert torch.equal(fresh.eval()(features), by_evidence.eval()(features))
    assert set(by_evidence.export_form().config) == {"plan", "options"}


def test_while_it_learns_a_picture_is_answered_without_its_fold(by_evidence: Snow) -> None:
    features, _ = calibrate(by_evidence, learned=torch.arange(30) % 5 > 0)
    readout = by_evidence.readout
    assert readout is not None
    assert readout.crossfit is not None
    assert by_evidence.folds is not None
    assert by_evidence.folds.shape == (30,)
    assert not any(parameter.requires_grad for parameter in readout.parameters())
    answered = by_evidence.eval()(features)
    by_evidence.train()
    folds = torch.arange(90) % (readout.folds + 1) - 1
    by_evidence.set_folds(folds)
    learning = by_evidence(features)
    weight = readout.weight.clone()
    for fold in range(readout.folds):
        readout.weight.data = weight + readout.crossfit[fold]
        torch.testing.assert_close(learning[folds == fold], readout(features)[folds == fold])
    readout.weight.data = weight
    torch.testing.assert_close(learning[folds == -1], answered[folds == -1])
    assert not torch.allclose(learning[folds == 0], answered[folds == 0], atol=1e-3)
    torch.testing.assert_close(by_evidence(features), answered)  # folds are told for one batch
    by_evidence.conclude(trained=True, scale=1.0)
    assert readout.crossfit is None
    assert all(parameter.requires_grad for parameter in by_evidence.export_form().parameters())
