"""The start of SNOW by evidence: what calibration finds, what is saved, and what training keeps of it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from labelled_features import FINAL, K, N, make_features
from torch import Tensor

from snow.delta import NORMAL, DeltaPlan
from snow.delta.plan import Level
from snow.errors import SnowError
from snow.methods import Snow, SnowConfig
from snow.source import Features, Source
from snow.subscribe import moments


@pytest.fixture
def by_evidence() -> Snow:
    level = Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1)
    plan = DeltaPlan("general", 8, 4, (level,), 16, FINAL, FINAL // 2)
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
    assert Snow.build(source, 3, {"start": "evidence", "rank": 2}).starts_by_evidence


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


def test_all_final_features_pass_beside_a_readout(by_evidence: Snow) -> None:
    features, _ = calibrate(by_evidence, learned=torch.arange(30) % 5 > 0)
    torch.nn.init.normal_(by_evidence.delta.classifier.weight)
    by_evidence.set_share(0.5)
    by_evidence.freeze_selection()
    by_evidence.eval()
    channels = by_evidence.sample_channels()
    assert channels["(final)"] is None, "the delta reads some of them, the readout any"
    narrow = replace(
        features,
        maps={"map": features.maps["map"][:, channels["map"]]},
        moments={"map": moments(features.maps["map"])},
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
    copied.set_share(0.5)
    copied.conclude(trained=True, scale=3.0)
    torch.testing.assert_close(copied(features), 1.5 * (whole + added), rtol=1e-3, atol=1e-3)


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


def test_a_number_starts_by_evidence_where_it_is_known(by_evidence: Snow, source: Source) -> None:
    level = by_evidence.plan.levels[0]
    plan = DeltaPlan("general", 8, 4, (level,), 16, FINAL, FINAL // 2)
    snow = Snow(plan, 1, SnowConfig().resolved(1), budget=1000, answers=2)
    fresh = copy.deepcopy(snow)
    numbers = (torch.arange(60) % 3 - 1.0)[:, None]
    features = make_features(torch.arange(60) % 3)
    numbers[::6] = torch.nan
    snow.calibrate_views([(features, numbers)], 1, torch.arange(60) % 5 > 0, NORMAL)
    assert snow.evidence["pictures"] == 50
    new = torch.arange(90) % 3
    answers = snow.eval()(make_features(new, seed=9)).detach()
    assert NORMAL.measure(answers, (new - 1.0)[:, None])[1] > 0.7
    layout = snow.layout()
    assert layout is not None
    fresh.set_layout(json.loads(json.dumps(layout)))
    fresh.load_state_dict(snow.state_dict())
    assert torch.equal(fresh.eval()(features), snow(features))
    snow.conclude(trained=False, scale=1.0)
    exported = snow.export_form()
    rebuilt = Snow.rebuild(source, 1, json.loads(json.dumps(exported.config)))
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), snow(features))


@pytest.mark.parametrize("numbers", [[torch.nan] * 4, [1.0], [0.5] * 4, [0.0, 1.0], [0.0, 1.0, torch.nan]])
def test_a_poor_sample_of_numbers_gives_numbers(by_evidence: Snow, numbers: list[float]) -> None:
    snow = Snow(by_evidence.plan, 1, by_evidence.options, budget=10_000, answers=2)
    features = make_features(torch.arange(len(numbers)))
    snow.calibrate_views([(features, torch.tensor(numbers)[:, None])], 1, None, NORMAL)
    assert bool(snow.evidence) == (len({number for number in numbers if number == number}) > 1)
    assert snow.eval()(features).isfinite().all()


def test_targets_of_no_known_likelihood_start_from_zero(by_evidence: Snow) -> None:
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


def test_beside_a_start_the_delta_learns_from_its_own_logits(by_evidence: Snow) -> None:
    features, _ = calibrate(by_evidence, learned=torch.arange(30) % 5 > 0)
    assert by_evidence.delta is not None
    assert by_evidence.readout is not None
    assert not any(parameter.requires_grad for parameter in by_evidence.readout.parameters())
    torch.nn.init.normal_(by_evidence.delta.classifier.weight)
    by_evidence.eval()
    start, own = by_evidence.readout(features), by_evidence.delta(features)
    assert torch.equal(by_evidence(features), start), "until held-out pictures say more"
    by_evidence.set_share(0.25)
    parts = by_evidence.apart(features)
    assert torch.equal(parts, torch.stack([start, own], 1))
    torch.testing.assert_close(by_evidence(features), 0.75 * start + 0.25 * own)
    torch.testing.assert_close(by_evidence.export_form()(features), by_evidence(features))
    by_evidence.train()
    by_evidence(features).square().sum().backward()
    reached = {name.split(".")[0] for name, value in by_evidence.named_parameters() if value.grad is not None}
    assert reached == {"delta"}


@pytest.mark.parametrize("targets", [False, True])
def test_a_delta_is_not_calibrated_by_labels_that_it_does_not_learn(by_evidence: Snow, targets: bool) -> None:
    learned = torch.arange(60) % 5 > 0
    label = torch.arange(60) % 3
    features = make_features(label)
    wrong = torch.where(learned, label, (label + 1) % 3)
    scores = []
    for labels in (label, wrong):
        snow = Snow(by_evidence.plan, 1 if targets else 3, by_evidence.options, budget=10_000, answers=2)
        named = (labels - 1.0)[:, None] if targets else labels
        snow.calibrate_views([(features, named)], 1, learned, NORMAL if targets else None)
        assert snow.delta is not None
        scores.append(snow.delta.subscriptions[0].weight.detach())
    assert torch.equal(*scores)


def test_without_held_out_pictures_both_learn_together(by_evidence: Snow) -> None:
    features, _ = calibrate(by_evidence)
    assert by_evidence.share is None
    torch.nn.init.normal_(by_evidence.delta.classifier.weight)
    by_evidence.eval()
    torch.testing.assert_close(by_evidence(features), by_evidence.readout(features) + by_evidence.delta(features))
    by_evidence(features).square().sum().backward()
    assert by_evidence.readout.weight.grad is not None
