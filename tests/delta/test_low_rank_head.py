"""The low-rank head: its directions, their whitening, and what is exported of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snow.delta import Delta, DeltaPlan, SnowConfig
from snow.delta.discriminants import SHRINKAGE, Whitening
from snow.delta.plan import Level
from snow.source import FINAL, Features
from snow.subscribe import ChannelStatistics, moments

N, K = 12, 5
PLAN = DeltaPlan("general", 8, 4, (Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1),), 8, 6, 2)

MANY, RANK = 9, 4
FINE = replace(PLAN, levels=(*PLAN.levels, replace(PLAN.levels[0], tap="fine")))


def config(subscription: str = "channel_pooling", rank: int = RANK) -> SnowConfig:
    return SnowConfig(subscription=subscription, dropout=0.0, readout=1.0, rank=rank)


def calibrated(subscription: str = "channel_pooling") -> tuple[Delta, Features, Tensor]:
    """A calibrated delta with a low-rank head, and pictures of classes that differ in one of its two maps."""
    torch.manual_seed(0)
    label = torch.arange(90) % MANY
    class_means = torch.randn(MANY, N)[label][:, :, None, None]
    maps = {"map": torch.randn(90, N, 6, 6) + class_means, "fine": torch.randn(90, N, 6, 6)}
    features = Features(torch.randn(90, 3, 24, 24), maps, torch.randn(90, 6), torch.zeros(90, 2))
    delta = Delta(FINE, MANY, config(subscription))
    by_tap = {tap: moments(x) for tap, x in (*maps.items(), (FINAL, features.final[:, :, None, None]))}
    delta.calibrate({tap: ChannelStatistics.from_moments([values], label) for tap, values in by_tap.items()})
    delta.init_directions(by_tap, label)
    return delta.eval(), features, label


def project(delta: Delta, features: Features) -> Tensor:
    maps = [features.maps["map"], features.maps["fine"], features.final[:, :, None, None]]
    assert delta.directions is not None
    subscriptions = delta.all_subscriptions()
    return delta.directions.project([subscription(x) for subscription, x in zip(subscriptions, maps, strict=True)])


def with_random_heads(delta: Delta) -> Delta:
    """Set the weights that start at zero, which would hide the directions."""
    assert delta.directions is not None
    torch.nn.init.normal_(delta.directions.expand.weight)
    torch.nn.init.normal_(delta.classifier.weight)
    return delta


@pytest.mark.parametrize("subscription", ["channel_pooling", "all"])
def test_directions_start_as_discriminants_of_the_subscribed_channels(subscription: str) -> None:
    delta, features, label = calibrated(subscription)
    projections = project(delta, features).detach()
    assert projections.shape == (90, RANK)
    means = torch.stack([projections[label == index].mean(0) for index in range(MANY)])
    residuals = projections - means[label]
    assert ((residuals.T @ residuals / 90).diagonal() > 0.5).all()
    assert ((residuals.T @ residuals / 90).diagonal() < 1.01).all()
    nearest = torch.cdist(projections, means).argmin(1)
    assert (nearest == label).float().mean() > 0.8
    assert delta(features).abs().max() == 0


@pytest.mark.parametrize("subscription", ["channel_pooling", "conv1x1", "channel_attention", "all"])
def test_directions_are_exported_as_they_learned_and_rebuilt_to_the_bit(subscription: str) -> None:
    delta, features, _ = calibrated(subscription)
    trained, exported = with_random_heads(delta)(features), delta.export_form()
    expected = exported(features)
    torch.testing.assert_close(expected, trained, rtol=1e-4, atol=1e-4)
    assert not any("whitening" in name for name in exported.state_dict())
    rebuilt = Delta(FINE, MANY, config(subscription), exported=True).eval()
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), expected)


def test_a_low_rank_head_without_calibration_gets_a_gradient() -> None:
    _, features, _ = calibrated()
    delta = Delta(FINE, MANY, config())
    delta(features).square().sum().add(delta(features)[:, 0].sum()).backward()
    assert delta.directions is not None
    assert delta.directions.expand.weight.grad is not None
    assert (delta.directions.expand.weight.grad[0] != 0).all()


@pytest.mark.parametrize(("classes", "rank"), [(MANY, 8), (3, 3), (3, 128), (MANY, 0)])
def test_there_is_no_low_rank_head_where_it_saves_nothing(classes: int, rank: int) -> None:
    full = Delta(PLAN, classes, config(rank=0), exported=True)
    delta = Delta(PLAN, classes, config(rank=rank), exported=True)
    assert delta.directions is None
    assert delta.state_dict().keys() == full.state_dict().keys()


def test_how_many_parameters_a_low_rank_head_saves() -> None:
    full, low_rank = (Delta(PLAN, MANY, config(rank=rank), exported=True) for rank in (0, 1))
    inputs = 2 * K + PLAN.final_keep
    saved = inputs * MANY - (inputs + MANY)
    count, full_count = (sum(value.numel() for value in delta.parameters()) for delta in (low_rank, full))
    assert count == full_count - saved


@pytest.mark.parametrize("labels", [torch.arange(60) % 6, (torch.arange(60) % 7) - 1])
def test_whitened_inputs_are_uncorrelated_within_classes(labels: Tensor) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(60, 8) @ torch.randn(8, 8) + torch.randn(7, 8)[labels]
    whitening = Whitening(8)
    columns, weights = torch.tensor([0, 1, 2, 3, 5, 6, 8, 9]), torch.randn(3, 8)
    whitened_weights = whitening.fit(inputs, labels, columns, weights)
    all_columns = torch.randn(60, 11).index_copy(1, columns, inputs)
    white = whitening(all_columns)
    torch.testing.assert_close(white[:, columns] @ whitened_weights.T, inputs @ weights.T, rtol=1e-4, atol=1e-4)
    assert torch.equal(white[:, [4, 7, 10]], all_columns[:, [4, 7, 10]])
    labelled, classes = inputs[labels >= 0], labels[labels >= 0]
    means = torch.stack([labelled[classes == index].mean(0) for index in range(6)])
    residuals = labelled - means[classes]
    within = residuals.T @ residuals / len(residuals)
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * within.diagonal().diag()
    torch.testing.assert_close(whitening.root.T @ shrunk @ whitening.root, torch.eye(8), rtol=0, atol=1e-4)
    wide = torch.randn(3, 11)
    torch.testing.assert_close(all_columns @ whitening.fold(wide).T, white @ wide.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subscription", ["channel_pooling", "conv1x1", "all"])
def test_a_selection_that_has_not_changed_is_frozen_with_its_whitening(subscription: str) -> None:
    delta, features, _ = calibrated(subscription)
    expected = with_random_heads(delta)(features)
    frozen = delta.freeze_selection()
    assert frozen.directions is not None
    assert frozen.directions.whitening is not None
    torch.testing.assert_close(frozen(features), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(frozen.export_form()(features), expected, rtol=1e-4, atol=1e-4)


def test_a_selection_that_has_changed_folds_its_whitening_and_answers_alike() -> None:
    delta, features, _ = calibrated()
    weight = delta.all_subscriptions()[0].get_parameter("weight")
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    expected = with_random_heads(delta)(features)
    for narrower in (delta.freeze_selection(), delta.export_form()):
        assert narrower.directions is not None
        assert narrower.directions.whitening is None
        torch.testing.assert_close(narrower(features), expected, rtol=1e-4, atol=1e-4)
