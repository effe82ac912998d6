"""A copy of the last stages beside a start in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.tail import Tail
from snow.source import Features, Source


@pytest.fixture
def tail(resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> Tail:
    """One that has found its start, with a copy whose head has learned something."""
    torch.manual_seed(0)
    images, labels = draw(24, 3)
    method = Tail.build(resnet, 3).eval()
    method.calibrate([(resnet(images, method.taps), labels)])
    assert method.copy is not None
    torch.nn.init.normal_(method.copy.classifier.weight, std=0.1)
    return method.eval()


@pytest.fixture
def features(resnet: Source, tail: Tail, draw: Callable[..., tuple[Tensor, Tensor]]) -> Features:
    return resnet(draw(6, 3, seed=9)[0], tail.taps)


def test_start_and_copy_count_by_the_share_of_the_copy(tail: Tail, features: Features) -> None:
    parts = tail.apart(features)
    assert parts.shape == (6, 2, 3)
    torch.testing.assert_close(tail(features), parts.mean(1))
    tail.set_share(0.0)
    assert torch.equal(tail(features), tail.start(features))
    tail.set_share(0.25)
    torch.testing.assert_close(tail(features), 0.75 * parts[:, 0] + 0.25 * parts[:, 1])
    assert torch.equal(tail(features), tail.mix(parts, 0.25))


def test_the_copy_learns_from_its_own_logits(tail: Tail, features: Features) -> None:
    tail.set_share(0.25)
    assert tail.copy is not None
    logits = tail.train()(features)
    assert torch.equal(logits, tail.copy(features))
    logits.sum().backward()
    reached = {name for name, value in tail.named_parameters() if value.grad is not None}
    assert {name.split(".")[0] for name in reached} == {"copy"}
    groups = {id(value): group["lr_scale"] for group in tail.parameter_groups(0.1) for value in group["params"]}
    assert groups[id(tail.copy.classifier.weight)] == 1.0
    assert groups[id(tail.copy.cnn.layer4[0].conv1.weight)] == pytest.approx(0.3)


def test_a_kept_start_has_no_copy(
    tail: Tail, resnet: Source, features: Features, rebuilt: Callable[..., Method]
) -> None:
    before = tail.learned_parameters
    tail.conclude(False, 1.0)
    assert tail.config["copy"] is None
    assert tail.learned_parameters < before
    assert tail.export_form().taps == tail.start.taps
    assert torch.equal(rebuilt(resnet, tail)(features), tail(features))


def test_trained_logits_have_the_scale_of_held_out_pictures(
    tail: Tail, resnet: Source, features: Features, rebuilt: Callable[..., Method]
) -> None:
    tail.set_share(0.5)
    answered = tail(features)
    tail.conclude(True, 2.0)
    torch.testing.assert_close(tail(features), 2 * answered)
    assert torch.equal(rebuilt(resnet, tail)(features), tail(features))


def test_a_stopped_run_goes_on_with_the_same_start(tail: Tail, resnet: Source, features: Features) -> None:
    tail.set_share(0.5)
    layout = tail.layout()
    assert layout is not None
    again = Tail.build(resnet, 3).eval()
    again.set_layout(layout)
    again.load_state_dict(tail.state_dict())
    assert torch.equal(again.eval()(features), tail(features))


def test_impossible_options_are_refused(resnet: Source) -> None:
    for config, said in (({"stages": 0}, "stages"), ({"budget": -1}, "budget"), ({"width": 1}, "no option width")):
        with pytest.raises(SnowError, match=said):
            Tail.build(resnet, 3, config)
