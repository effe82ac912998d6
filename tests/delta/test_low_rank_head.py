"""A few directions of all that is subscribed to, and the coordinates in which they learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snow.delta import Delta, DeltaPlan
from snow.delta.discriminants import SHRINKAGE, Whitening
from snow.delta.plan import Level
from snow.source import FINAL, Features
from snow.subscribe import ChannelStatistics, moments

N, K = 12, 5
PLAN = DeltaPlan("general", 8, 4, (Level("map", N, K, own=8, out=8, hidden=8, kernel=3, stride=1),), 8, 6, 2)

MANY, RANK = 9, 4
FINE = replace(PLAN, levels=(*PLAN.levels, replace(PLAN.levels[0], tap="fine")))


def directed(subscription: str = "channel_pooling") -> tuple[Delta, Features, Tensor]:
    """A calibrated delta with directions, and pictures of classes that differ in one of its two maps."""
    torch.manual_seed(0)
    label = torch.arange(90) % MANY
    apart = torch.randn(MANY, N)[label][:, :, None, None]
    maps = {"map": torch.randn(90, N, 6, 6) + apart, "fine": torch.randn(90, N, 6, 6)}
    features = Features(torch.randn(90, 3, 24, 24), maps, torch.randn(90, 6), torch.zeros(90, 2))
    delta = Delta(FINE, MANY, subscription, readout=1.0, rank=RANK)
    found = {tap: moments(x) for tap, x in (*maps.items(), (FINAL, features.final[:, :, None, None]))}
    delta.calibrate({tap: ChannelStatistics.of([each], label) for tap, each in found.items()})
    delta.discriminate(found, label)
    return delta.eval(), features, label


def project(delta: Delta, features: Features) -> Tensor:
    x = [features.maps["map"], features.maps["fine"], features.final[:, :, None, None]]
    assert delta.directions is not None
    return delta.directions.project([one(each) for one, each in zip(delta.all_subscriptions(), x, strict=True)])


def speaking(delta: Delta) -> Delta:
    assert delta.directions is not None
    torch.nn.init.normal_(delta.directions.expand.weight)
    torch.nn.init.normal_(delta.classifier.weight)
    return delta


@pytest.mark.parametrize("subscription", ["channel_pooling", "all"])
def test_directions_start_as_discriminants_of_all_that_is_subscribed_to(subscription: str) -> None:
    delta, features, label = directed(subscription)
    place = project(delta, features).detach()
    assert place.shape == (90, RANK)
    means = torch.stack([place[label == one].mean(0) for one in range(MANY)])
    rest = place - means[label]
    assert ((rest.T @ rest / 90).diagonal() > 0.5).all()
    assert ((rest.T @ rest / 90).diagonal() < 1.01).all()
    nearest = torch.cdist(place, means).argmin(1)
    assert (nearest == label).float().mean() > 0.8
    assert delta(features).abs().max() == 0


@pytest.mark.parametrize("subscription", ["channel_pooling", "conv1x1", "channel_attention", "all"])
def test_directions_are_served_as_they_learned_and_rebuilt_to_the_bit(subscription: str) -> None:
    delta, features, _ = directed(subscription)
    learned, served = speaking(delta)(features), delta.export_form()
    expected = served(features)
    torch.testing.assert_close(expected, learned, rtol=1e-4, atol=1e-4)
    assert not any("whitening" in name for name in served.state_dict())
    rebuilt = Delta(FINE, MANY, subscription, exported=True, readout=1.0, rank=RANK).eval()
    rebuilt.load_state_dict(served.state_dict())
    assert torch.equal(rebuilt(features), expected)


def test_directions_without_calibration_can_learn() -> None:
    _, features, _ = directed()
    delta = Delta(FINE, MANY, readout=1.0, rank=RANK)
    delta(features).square().sum().add(delta(features)[:, 0].sum()).backward()
    assert delta.directions is not None
    assert delta.directions.expand.weight.grad is not None
    assert (delta.directions.expand.weight.grad[0] != 0).all()


@pytest.mark.parametrize(("classes", "rank"), [(MANY, 8), (3, 3), (3, 128), (MANY, 0)])
def test_there_are_no_directions_where_they_save_nothing(classes: int, rank: int) -> None:
    full = Delta(PLAN, classes, exported=True, readout=1.0)
    delta = Delta(PLAN, classes, exported=True, readout=1.0, rank=rank)
    assert delta.directions is None
    assert delta.state_dict().keys() == full.state_dict().keys()


def test_what_directions_save() -> None:
    full, few = (Delta(PLAN, MANY, exported=True, readout=1.0, rank=rank) for rank in (0, 1))
    inputs = 2 * K + PLAN.final_keep
    saved = inputs * MANY - (inputs + MANY)
    assert sum(value.numel() for value in few.parameters()) == sum(value.numel() for value in full.parameters()) - saved


@pytest.mark.parametrize("labels", [torch.arange(60) % 6, (torch.arange(60) % 7) - 1])
def test_inputs_are_uncorrelated_within_classes_in_their_coordinates(labels: Tensor) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(60, 8) @ torch.randn(8, 8) + torch.randn(7, 8)[labels]
    whitening = Whitening(8)
    columns, weights = torch.tensor([0, 1, 2, 3, 5, 6, 8, 9]), torch.randn(3, 8)
    behind = whitening.start(inputs, labels, columns, weights)
    everywhere = torch.randn(60, 11).index_copy(1, columns, inputs)
    white = whitening(everywhere)
    torch.testing.assert_close(white[:, columns] @ behind.T, inputs @ weights.T, rtol=1e-4, atol=1e-4)
    assert torch.equal(white[:, [4, 7, 10]], everywhere[:, [4, 7, 10]])
    seen, own = inputs[labels >= 0], labels[labels >= 0]
    rest = seen - torch.stack([seen[own == one].mean(0) for one in range(6)])[own]
    within = rest.T @ rest / len(rest)
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * within.diagonal().diag()
    torch.testing.assert_close(whitening.root.T @ shrunk @ whitening.root, torch.eye(8), rtol=0, atol=1e-4)
    wide = torch.randn(3, 11)
    torch.testing.assert_close(everywhere @ whitening.folded(wide).T, white @ wide.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subscription", ["channel_pooling", "conv1x1", "all"])
def test_a_choice_that_has_not_moved_settles_in_its_coordinates(subscription: str) -> None:
    delta, features, _ = directed(subscription)
    expected = speaking(delta)(features)
    settled = delta.freeze_selection()
    assert settled.directions is not None
    assert settled.directions.whitening is not None
    torch.testing.assert_close(settled(features), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(settled.export_form()(features), expected, rtol=1e-4, atol=1e-4)


def test_a_choice_that_has_moved_gives_up_its_coordinates_and_answers_alike() -> None:
    delta, features, _ = directed()
    first = delta.all_subscriptions()[0]
    with torch.no_grad():
        first.get_parameter("weight").copy_(first.get_parameter("weight").flip(0))
    expected = speaking(delta)(features)
    for narrower in (delta.freeze_selection(), delta.export_form()):
        assert narrower.directions is not None
        assert narrower.directions.whitening is None
        torch.testing.assert_close(narrower(features), expected, rtol=1e-4, atol=1e-4)
