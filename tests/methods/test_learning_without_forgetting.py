from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact
from snow.inference.features import observe
from snow.methods.learning_without_forgetting import LearningWithoutForgetting
from snow.source import Source
from snow.training import Recipe
from snow.training.launch import open_fabric
from snow.training.learner import Learner
from snow.training.task_labels import TaskLabels

Draw = Callable[..., tuple[Tensor, Tensor]]


def make_two(source: Source, **options: Any) -> tuple[LearningWithoutForgetting, LearningWithoutForgetting]:
    """Make the methods of two tasks; the first head has random weights, as if it were trained."""
    first = LearningWithoutForgetting.build(source, 3)
    torch.nn.init.normal_(first.network.heads[0].weight)
    return first.export_form(), LearningWithoutForgetting.build(source, 4, {"earlier": {"a": first}, **options})


def train(source: Source, learner: Learner, images: Tensor, labels: Tensor, progress: list[float]) -> None:
    learner.method.train()
    for fraction in progress:
        learner.prepare(1.0, fraction)
        loss, _ = learner.loss(observe(source, [learner.method], images), labels[:, None], len(labels))
        loss.backward()
        learner.step()
    learner.method.eval()


def make_learner(method: LearningWithoutForgetting) -> Learner:
    return Learner(
        "x",
        method,
        TaskLabels.classes(method.num_classes),
        Recipe(lr=1e-2, label_smoothing=0),
        open_fabric("32", "cpu"),
    )


def test_it_starts_as_the_network_before(source: Source, draw: Draw) -> None:
    images, _ = draw(6)
    first, second = make_two(source)
    features = source(images, ())
    assert torch.allclose(first.network(features.images)[0], features.logits, atol=1e-5)
    assert torch.equal(second.updated_tasks()["a"](features), first(features))
    assert torch.equal(second.eval()(features), torch.zeros(6, 4))


def test_the_penalty_is_equation_2_with_old_answers_as_targets(resnet: Source, draw: Draw) -> None:
    images, _ = draw(6)
    _, method = make_two(resnet, old_weight=3.0)
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    method.train().set_progress(0.5)
    method.network.eval()
    features = resnet(images, ())
    assert method(features).shape == (6, 4)
    assert method.teacher is not None
    expected = torch.zeros(())
    for before, now in zip(
        method.teacher.all_logits(*method.teacher(features.images)),
        method.network.all_logits(*method.network(features.images))[:2],
        strict=True,
    ):
        a, b = before.softmax(1).sqrt(), now.softmax(1).sqrt()
        a, b = a / a.sum(1, keepdim=True), b / b.sum(1, keepdim=True)
        expected = expected - 3 * (a * b.log()).sum(1).mean()
    penalty = method.penalty()
    assert penalty is not None
    assert torch.allclose(penalty, expected, rtol=1e-4)
    assert method.penalty() is None


def test_unchanged_answers_pull_nowhere(resnet: Source, draw: Draw) -> None:
    _, method = make_two(resnet)
    method.train().set_progress(0.5)
    method.network.eval()
    method(resnet(draw(6)[0], ()))
    penalty = method.penalty()
    assert penalty is not None
    penalty.backward()
    assert max(value.grad.abs().max() for value in method.network.parameters() if value.grad is not None) < 1e-5
    assert method.network.heads[0].weight.grad is not None
    assert all(value.grad is None for value in method.teacher.parameters())


def test_the_loss_has_the_penalty_once_for_each_labelled_picture(resnet: Source, draw: Draw) -> None:
    images, labels = draw(6)
    labels[0] = -1
    _, method = make_two(resnet)
    learner = Learner(
        "x", method.train(), TaskLabels.classes(method.num_classes, smoothing=0.1), Recipe(), open_fabric("32", "cpu")
    )
    learner.prepare(1.0, 0.5)
    method.network.eval()
    features = resnet(images, ())
    loss, _ = learner.loss(features, labels[:, None], 10)
    entropy = F.cross_entropy(method(features), labels, ignore_index=-1, reduction="sum", label_smoothing=0.1)
    penalty = method.penalty()
    assert penalty is not None
    assert torch.allclose(loss, (entropy + 5 * penalty) / 10)


def test_only_the_new_head_learns_in_the_warmup(source: Source, draw: Draw) -> None:
    images, labels = draw(8, 4)
    _, method = make_two(source, warmup=0.5)
    before = {name: value.clone() for name, value in method.state_dict().items()}

    def changed() -> set[str]:
        return {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}

    learner = make_learner(method)
    train(source, learner, images, labels, [0.0, 0.2, 0.49])
    assert changed() == {"network.heads.1.weight", "network.heads.1.bias"}
    train(source, learner, images, labels, [0.5, 0.6, 0.7])
    learned = {f"network.{name}" for name, _ in method.network.named_parameters()}
    assert learned <= changed()
    assert not any(name.startswith("teacher") for name in changed())


def test_the_old_weight_holds_the_old_answers(tiny_sources: dict[str, Source], draw: Draw) -> None:
    """Without BatchNorm, whose statistics in a random network are far from those of the pictures."""
    source = tiny_sources["test_convnext"]
    images, labels = draw(8, 4)
    features = source(images, ())
    drift = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        first, method = make_two(source, old_weight=weight, warmup=0.0)
        expected = first(features).softmax(1)
        train(source, make_learner(method), images, labels, [0.5] * 8)
        assert (method(features).argmax(1) == labels).all()
        drift[weight] = (method.updated_tasks()["a"](features).softmax(1) - expected).abs().mean().item()
    assert 0 < drift[10.0] < 0.7 * drift[0.0]


def test_what_was_learned_before_moves_more_slowly(resnet: Source) -> None:
    _, method = make_two(resnet)
    method.lr_scale = 0.5
    rates = {id(value): group["lr_scale"] for group in method.parameter_groups(0.1) for value in group["params"]}
    new = [id(value) for value in method.network.heads[1].parameters()]
    assert [rates.pop(key) for key in new] == [0.5, 0.5]
    assert set(rates.values()) == {0.05}
    assert len(rates) + 2 == len(list(method.network.parameters()))


def test_what_is_saved_answers_all_tasks(source: Source, draw: Draw, tmp_path: Path) -> None:
    images, labels = draw(8, 4)
    first, method = make_two(source)
    train(source, make_learner(method), images, labels, [0.5, 0.6])
    exported = method.export_form()
    assert not any(name.startswith("teacher") for name in exported.state_dict())
    own = source.learned_parameters
    assert exported.learned_parameters == own + (3 + 4) * (source.num_features + 1)
    Artifact("b", tuple("wxyz"), exported, source.description()).save(tmp_path / "b")
    loaded = Artifact.load(tmp_path / "b", source).method
    assert isinstance(loaded, LearningWithoutForgetting)
    features = source(images, ())
    assert torch.equal(loaded(features), method(features))
    assert list(loaded.updated_tasks()) == ["a"]
    updated = loaded.updated_tasks()["a"]
    assert updated.num_classes == 3
    assert torch.equal(updated(features), method.updated_tasks()["a"](features))
    assert not torch.equal(updated(features), first(features))
    rebuilt = LearningWithoutForgetting.rebuild(source, 3, json.loads(json.dumps(updated.config)))
    rebuilt.load_state_dict(updated.state_dict())
    assert torch.equal(rebuilt(features), updated(features))
    third = LearningWithoutForgetting.build(source, 2, {"earlier": {"a": first, "b": loaded}})
    assert torch.equal(third.updated_tasks()["b"](features), loaded(features))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"old_weight": -1}, "old_weight must be zero or more"),
        ({"temperature": 0}, "temperature must be more than zero"),
        ({"warmup": 1}, r"warmup is a part of training in \[0, 1\)"),
        ({"old_rate": 2}, r"old_rate is a ratio in \(0, 1\]"),
        ({"heads": 2}, "no option heads"),
    ],
)
def test_impossible_options_are_refused(resnet: Source, options: dict[str, Any], match: str) -> None:
    with pytest.raises(SnowError, match=match):
        LearningWithoutForgetting.build(resnet, 3, options)


def test_an_updated_task_cannot_be_built_upon(resnet: Source) -> None:
    first, second = make_two(resnet)
    third = LearningWithoutForgetting.build(resnet, 2, {"earlier": {"a": first, "b": second}})
    with pytest.raises(SnowError, match="in their order: a was learned after a, b"):
        LearningWithoutForgetting.build(resnet, 2, {"earlier": third.updated_tasks()})
