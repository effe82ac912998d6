"""The contract of every method, on a source of each kind; SNOW with every subscription."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.inference.features import observe
from snow.methods import METHODS, Method
from snow.source import FINAL, Features, Source
from snow.subscribe import SUBSCRIPTIONS

CLASSES = ("blue", "green", "red")
Draw = Callable[..., tuple[Tensor, Tensor]]
STEPS = 8
POOLING = "channel_pooling"
EXTRAS = {"lora": "peft"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in METHODS},
    **{f"snow-{name}": ("snow", {"subscription": name}) for name in SUBSCRIPTIONS if name != POOLING},
    "snow-literal": (
        "snow",
        {"width": 1 / 8, "pooling": {"slots": "index", "init": "ones", "settle": 0.0, "rescale": False}},
    ),
    "snow-norm": ("snow", {"pooling": {"slots": "index", "norm": True, "relu": True}}),
    "mp-both": ("mp", {"patch": "both", "statistics": "source"}),
    "partial-pruned": ("partial", {"keep": 0.5}),
    "tail-pruned": ("tail", {"keep": 0.5}),
}


@dataclass(frozen=True)
class Learned:
    """A method after some steps of training, and what was recorded on the way."""

    variant: str
    source: Source
    source_before: dict[str, Tensor]
    source_after: dict[str, Tensor]
    method: Method
    before: dict[str, Tensor]
    expected: set[str]
    losses: list[float]


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def build(variant: str, source: Source) -> Method:
    name, config = VARIANTS[variant]
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    return METHODS[name].build(source, len(CLASSES), config)


def learn(method: Method, source: Source, images: Tensor, labels: Tensor, steps: int) -> list[float]:
    """Train in a few lines, as `snow.training` does. Return the loss before each step."""
    method.eval()
    method.calibrate([(source(images, method.taps), labels)])
    method.train()
    groups = [group for group in method.parameter_groups(1e-4) if group["params"]]
    optimizer = torch.optim.AdamW([{**group, "lr": 0.02 * group.get("lr_scale", 1.0)} for group in groups])
    losses = []
    for step in range(steps):
        method.set_progress(step / steps)
        loss = functional.cross_entropy(method(source(images, method.taps)), labels)
        losses.append(loss.item())
        penalty = method.penalty()
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
    method.set_progress(1.0)
    method.set_share(0.5)
    return losses


@pytest.fixture(scope="module")
def learned_by(draw: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[str, Source], Learned]:
    """Train each variant on each source once for all tests."""
    images, labels = draw(6)

    @cache
    def learned(variant: str, source: Source) -> Learned:
        torch.manual_seed(0)
        source_before = snapshot(source)
        method = build(variant, source)
        before = snapshot(method)
        grouped = {id(value) for group in method.parameter_groups(0.1) for value in group["params"]}
        expected = {name for name, value in method.named_parameters() if id(value) in grouped}
        losses = learn(method, source, images, labels, STEPS)
        return Learned(variant, source, source_before, snapshot(source), method, before, expected, losses)

    return learned


@pytest.fixture(scope="module", params=VARIANTS)
def learned(request: pytest.FixtureRequest, source: Source, learned_by: Callable[[str, Source], Learned]) -> Learned:
    return learned_by(request.param, source)


@pytest.fixture(scope="module")
def features(learned: Learned, draw: Callable[..., tuple[Tensor, Tensor]]) -> Features:
    """Features of pictures that were not used in training."""
    return learned.source(draw(6, seed=9)[0], learned.method.taps)


def test_the_source_is_the_same_to_the_bit(learned: Learned) -> None:
    assert equal(learned.source_before, learned.source_after)
    assert all(value.grad is None and not value.requires_grad for value in learned.source.buffers())


def test_a_separable_task_is_learned(learned: Learned) -> None:
    if learned.method.evidence and not learned.variant.startswith("tail"):  # it starts with the answers
        assert max(learned.losses[0], learned.losses[-1]) < 0.5 * math.log(3), learned.losses
        return
    assert learned.losses[0] == pytest.approx(math.log(3), abs=0.3)
    assert min(learned.losses) < 0.5 * learned.losses[0], learned.losses


def test_exactly_the_grouped_parameters_learn(learned: Learned) -> None:
    """Every parameter in the groups changes, and no other."""
    after = learned.method.state_dict()
    moved = {
        name for name, _ in learned.method.named_parameters() if not torch.equal(after[name], learned.before[name])
    }
    frozen = {name for name, value in learned.method.named_parameters() if not value.requires_grad}
    assert learned.expected
    assert moved - frozen == learned.expected - frozen, "what calibration alone finds may move as well"


def test_groups_hold_each_parameter_once(learned: Learned) -> None:
    groups = learned.method.parameter_groups(0.125)
    grouped = [id(value) for group in groups for value in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(value) for value in learned.method.parameters() if value.requires_grad}
    for group in groups:
        assert group["weight_decay"] in (0.0, 0.125)
        assert group["lr_scale"] > 0
        assert all(value.ndim > 1 for value in group["params"]) or group["weight_decay"] == 0.0


def test_answers_have_a_column_for_each_class(learned: Learned, features: Features) -> None:
    logits = learned.method.eval()(features)
    assert learned.method.num_classes == len(CLASSES)
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()


def test_eval_is_deterministic(learned: Learned, features: Features) -> None:
    torch.manual_seed(1)
    first = learned.method.eval()(features)
    torch.manual_seed(2)
    assert torch.equal(learned.method(features), first)


def test_its_taps_are_maps_of_the_source(learned: Learned, features: Features) -> None:
    assert set(features.maps) == learned.method.taps
    if not learned.method.uses_source:
        bare = Features(features.images, {}, torch.empty(0), torch.empty(0))
        assert torch.equal(learned.method.eval()(bare), learned.method(features))


def test_uses_final_is_true_if_it_reads_the_final_features(learned: Learned, draw: Draw) -> None:
    """Where it does not, a pass that stops behind the last tap is enough, and gives the same answer."""
    method, images = learned.method.export_form(), draw(6, seed=9)[0].contiguous(memory_format=torch.channels_last)
    features_seen = observe(learned.source, [method], images)
    assert torch.equal(method(features_seen), method(learned.source(images, method.taps)))
    assert (features_seen.final.numel() > 0) == method.uses_final


def test_it_reads_the_selected_channels_only(learned: Learned, features: Features) -> None:
    """Channels outside `selected_mask` can hold anything; the call draws no random numbers."""
    method = learned.method.eval()
    expected, state = method(features), torch.get_rng_state()
    selected = method.selected_mask()
    assert torch.equal(torch.get_rng_state(), state)
    assert set(selected) <= {*method.taps, FINAL}
    if VARIANTS[learned.variant][0] != "snow":
        assert selected == {}
    elif method.config["options"]["subscription"] == POOLING:
        assert set(selected) == {*method.taps, FINAL}
    other = {tap: _without(value, selected.get(tap)) for tap, value in features.maps.items()}
    final = _without(features.final, selected.get(FINAL))
    assert torch.equal(method(replace(features, maps=other, final=final)), expected)
    if FINAL in selected:
        final = _without(features.final, ~selected[FINAL])
        assert not torch.equal(method(replace(features, final=final)), expected)
    exported = method.export_form().selected_mask()
    assert exported.keys() == selected.keys()
    assert all(torch.equal(exported[tap], mask) for tap, mask in selected.items())


def _without(value: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return value
    changed = value.clone()
    changed[:, ~mask] = 7.0
    return changed


def test_exported_answers_alike_and_leaves_learning_alone(learned: Learned, features: Features) -> None:
    before = snapshot(learned.method)
    exported = learned.method.export_form()
    assert not exported.training
    assert equal(snapshot(learned.method), before)
    assert torch.equal(exported(features), learned.method.eval()(features))


def test_counting_does_not_end_training(learned: Learned) -> None:
    learned.method.train()
    assert learned.method.learned_parameters > 0
    assert learned.method.training


def test_state_round_trip(learned: Learned, features: Features) -> None:
    """A state dict restores a method, as a checkpoint does."""
    torch.manual_seed(5)
    other = build(learned.variant, learned.source)
    if (layout := learned.method.layout()) is not None:
        other.set_layout(layout)
    other.load_state_dict(learned.method.state_dict())
    other.set_progress(1.0)
    assert torch.equal(other.eval()(features), learned.method.eval()(features))


def test_config_is_json_and_rebuilds_the_exported_form(learned: Learned, features: Features) -> None:
    exported = learned.method.export_form()
    config = json.loads(json.dumps(exported.config, allow_nan=False))
    assert config == exported.config
    torch.manual_seed(77)
    rebuilt = METHODS[exported.name].rebuild(learned.source, 3, config)
    assert not rebuilt.training
    rebuilt.load_state_dict(exported.state_dict())
    assert torch.equal(rebuilt(features), exported(features))
    assert rebuilt.config == config


def test_saved_and_loaded_it_answers_alike(learned: Learned, features: Features, tmp_path: Path) -> None:
    exported = learned.method.export_form()
    Artifact("task", CLASSES, exported, learned.source.description()).save(tmp_path / "task")
    torch.manual_seed(77)
    loaded = Artifact.load(tmp_path / "task", learned.source)
    assert loaded.classes == CLASSES
    assert equal(dict(loaded.method.state_dict()), dict(exported.state_dict()))
    assert torch.equal(loaded.method(features), exported(features))
    assert loaded.method.learned_parameters == learned.method.learned_parameters


@pytest.mark.parametrize(
    "source",
    ["test_efficientnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("test_resnet", "test_convnext"))],
    indirect=True,
)
def test_the_hub_answers_as_each_task_alone(
    source: Source,
    learned_by: Callable[[str, Source], Learned],
    draw: Callable[..., tuple[Tensor, Tensor]],
    tmp_path: Path,
) -> None:
    """However many tasks of whatever kind come beside it, a task's answer and files stay the same to the bit."""
    images = draw(3, seed=8)[0]
    exported = {variant: learned_by(variant, source).method.export_form() for variant in VARIANTS}
    expected = {variant: method(observe(source, [method], images)) for variant, method in exported.items()}
    hub = Hub(Hub.create(tmp_path / "hub", source).path, source, engine="eager")
    for variant, method in exported.items():
        hub.add(Artifact(variant, CLASSES, method, source.description()))
    files = {path: path.read_bytes() for path in (tmp_path / "hub/tasks").rglob("*.*")}
    assert len(files) == 4 * len(VARIANTS)
    for variant in VARIANTS:
        assert torch.equal(hub.logits(images, [variant])[variant], expected[variant])
    logits = Hub(hub.path, source, engine="eager").logits(images)
    assert logits.keys() == VARIANTS.keys()
    assert all(torch.equal(logits[variant], expected[variant]) for variant in VARIANTS)
    hub.remove("snow")
    hub.add(Artifact("another", ("a", "b"), METHODS["snow"].build(source, 2).export_form(), source.description()))
    hub.add(
        Artifact("fo", ("a", "b"), METHODS["fo"].build(source, 2).export_form(), source.description()), replace=True
    )
    others = hub.logits(images)
    stayed = VARIANTS.keys() - {"snow", "fo"}
    assert others.keys() == stayed | {"another", "fo"}
    assert all(torch.equal(others[variant], expected[variant]) for variant in stayed)
    assert all(path.read_bytes() == content for path, content in files.items() if path.parent.name in stayed)
    verdicts = hub.verify()
    assert verdicts.keys() == others.keys()
    assert {(verdict.differences, verdict.logits) for verdict in verdicts.values()} == {((), 0.0)}


@pytest.mark.parametrize("variant", ["snow", "snow-literal", "fo"])
def test_the_seed_decides(variant: str, resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    images, labels = draw(6)
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        method = build(variant, resnet)
        learn(method, resnet, images, labels, 2)
        states.append(snapshot(method))
    assert equal(*states)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_option_is_one_line(name: str, resnet: Source) -> None:
    with pytest.raises(SnowError, match="no_such_option"):
        METHODS[name].build(resnet, 3, {"no_such_option": 1})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_final_and_knows_its_name(name: str) -> None:
    assert METHODS[name].name == name
    assert not inspect.isabstract(METHODS[name])
    assert [kind for kind in METHODS[name].__subclasses__() if kind.__module__.startswith("snow.")] == []
