"""Deltas: counts by formula, the paper's budget, odd pictures, and what an exported one depends on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from snow.delta import FAMILIES, Delta, DeltaPlan, SnowConfig, make_plan
from snow.delta.plan import Level
from snow.source import Features, Source
from snow.subscribe import FusionConv, PoolingConfig

CLASSES = (101, 47, 40, 196, 200)  # of the paper's five data sets
RATIOS = (1 / 8, 1 / 8, 1 / 2)
BARE = SnowConfig(dropout=0.0, readout=0.0, rank=0)
ALL = replace(BARE, subscription="all")


def example(family: str, stem_stride: int = 4) -> DeltaPlan:
    """Two levels with numbers that all differ."""
    levels = (Level("a", 40, 5, 16, 24, 48, 3, 1), Level("b", 56, 7, 24, 32, 64, 5, 2))
    return DeltaPlan(family, 16, stem_stride, levels, 72, 80, 11)


def test_a_patch_stem_sees_one_patch_per_place() -> None:
    """One kernel per patch of the picture: a patch changes one place of the output only."""
    delta = Delta(replace(example("bottleneck", 8), patchify=True), 3, BARE)
    assert [layer.weight.shape for layer in delta.stem if isinstance(layer, nn.Conv2d)] == [(16, 3, 8, 8)]
    pictures = torch.zeros(2, 3, 32, 32)
    pictures[1, :, 8:16, 24:32] = 1
    delta.eval()
    differs = (delta.stem(pictures)[0] != delta.stem(pictures)[1]).any(0)
    assert differs.nonzero().tolist() == [[1, 3]]


def expected_count(plan: DeltaPlan, classes: int, columns: list[int], final: int) -> int:
    """Count the weights and biases of a delta without its subscriptions; `columns`: weight columns at each level."""
    halvings = int(math.log2(plan.stem_stride))
    strided = max(0, halvings - (2 if plan.family in {"bottleneck", "basic"} else 1))
    total = 3 * plan.stem * (49 if plan.family in {"bottleneck", "basic"} else 9) + 2 * plan.stem
    total += strided * (9 * plan.stem**2 + 2 * plan.stem)
    for level, level_columns in zip(plan.levels, columns, strict=True):
        into, out, hidden, area = level.own + level_columns, level.out, level.hidden, level.kernel**2
        shortcut = into * out + 2 * out
        total += {
            "bottleneck": into * hidden
            + 2 * hidden
            + area * hidden**2
            + 2 * hidden
            + hidden * out
            + 2 * out
            + shortcut,
            "basic": area * into * out + 2 * out + area * out**2 + 2 * out + shortcut,
            "mbconv": into * hidden + 2 * hidden + area * hidden + 2 * hidden + hidden * out + 2 * out,
            "general": area * into * out + 2 * out + shortcut,
        }[plan.family]
    own = plan.levels[-1].out
    if plan.family == "mbconv":
        total += own * plan.features + 2 * plan.features
        own = plan.features
    return total + (own + final) * classes + classes


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def batch(plan: DeltaPlan, size: int = 64, count: int = 2) -> Features:
    """Features as a source with the plan's maps would give them."""
    maps, stride = {}, plan.stem_stride
    for level in plan.levels:
        maps[level.tap] = torch.randn(count, level.channels, size // stride, size // stride)
        stride *= level.stride
    images = torch.randn(count, 3, size, size)
    return Features(images, maps, torch.randn(count, plan.final), torch.zeros(count, 2))


def with_random_weights(delta: Delta) -> Delta:
    """Set the classifier's weights, which start at zero and would hide everything before it."""
    nn.init.normal_(delta.classifier.weight)
    return delta


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stem_stride", [1, 2, 4, 8, 16])
def test_parameters_follow_a_formula(family: str, stem_stride: int) -> None:
    plan = example(family, stem_stride)
    trained = Delta(plan, 9, BARE)
    assert count(trained) == expected_count(plan, 9, [40, 56], 80) + 40 + 56 + 80
    exported = trained.export_form()
    assert count(exported) == expected_count(plan, 9, [5, 7], 11) + 5 + 7 + 11
    assert count(Delta(plan, 9, BARE, exported=True)) == count(exported)
    assert (
        count(Delta(plan, 9, replace(BARE, pooling=PoolingConfig.literal())))
        == expected_count(plan, 9, [5, 7], 11) + 40 + 56 + 80
    )
    assert count(Delta(plan, 9, ALL)) == expected_count(plan, 9, [40, 56], 80) + 80
    assert count(Delta(plan, 9, ALL, exported=True)) == expected_count(plan, 9, [40, 56], 11) + 11


def test_the_paper_s_five_deltas_have_its_budget(weightless: Callable[..., Source]) -> None:
    """Table 6: 5.5 M parameters for ResNet-50 and five tasks, 17.5 M with all channels of all maps."""
    plan = replace(make_plan(weightless("resnet50"), *RATIOS), final=2048, final_keep=1024)
    keeps = [level.keep for level in plan.levels]
    subscriptions = sum(keeps) + plan.final_keep
    with torch.device("meta"):
        total = sum(count(Delta(plan, classes, BARE, exported=True)) for classes in CLASSES)
        all_channels = sum(count(Delta(plan, classes, ALL, exported=True)) for classes in CLASSES)
    assert total == sum(expected_count(plan, classes, keeps, plan.final_keep) + subscriptions for classes in CLASSES)
    assert total == pytest.approx(5.5e6, rel=0.1)
    assert all_channels == pytest.approx(17.5e6, rel=0.1)
    with_an_eighth = total - sum((1024 - 256) * (classes + 1) for classes in CLASSES)
    assert with_an_eighth == pytest.approx(5.5e6, rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_answers_as_eval_and_leaves_the_learning_one_alone(family: str) -> None:
    delta = with_random_weights(Delta(example(family), 9, replace(BARE, dropout=0.5)))
    features = batch(example(family))
    for _ in range(3):
        delta.train()(features)
    state = copy.deepcopy(delta.state_dict())
    exported = delta.export_form()
    assert delta.training
    assert all(torch.equal(value, state[name]) for name, value in delta.state_dict().items())
    assert not exported.training
    expected = delta.eval()(features)
    assert expected.abs().sum() > 0
    assert torch.equal(exported(features), expected)
    for value in delta.parameters():
        value.data.zero_()
    assert torch.equal(exported(features), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_exported_delta_is_as_wide_as_k_everywhere(family: str) -> None:
    """Nothing in it has a side of N: not scales, not indices, not weight columns."""
    plan = example(family)
    exported = Delta(plan, 9, BARE).export_form()
    sides = {side for value in exported.state_dict().values() for side in value.shape}
    assert sides.isdisjoint({40, 56, 80, 16 + 40, 24 + 56, 32 + 80, 72 + 80})
    rebuilt = Delta(plan, 9, BARE, exported=True)
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == {
        name: value.shape for name, value in exported.state_dict().items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_selected_channels_matter(family: str) -> None:
    plan = example(family)
    delta = with_random_weights(Delta(plan, 9, BARE)).eval()
    features = batch(plan)
    expected = delta(features)
    maps = {}
    for (tap, subscription, _), level in zip(delta.levels(), plan.levels, strict=True):
        selected = subscription.topk_indices()
        noise = torch.randn_like(features.maps[tap])
        noise[:, selected] = 0
        assert noise.abs().sum((0, 2, 3)).count_nonzero() == level.channels - level.keep
        maps[tap] = features.maps[tap] + noise
    assert torch.equal(delta(replace(features, maps=maps)), expected)
    for tap, subscription, _ in delta.levels():
        changed = {**features.maps, tap: features.maps[tap].clone()}
        changed[tap][:, subscription.topk_indices()[0]] += 1
        assert not torch.equal(delta(replace(features, maps=changed)), expected)
    final = features.final.clone()
    final[:, delta.final.topk_indices()] += 1
    assert not torch.equal(delta(replace(features, final=final)), expected)
    assert not torch.equal(delta(replace(features, images=features.images + torch.randn(2, 3, 64, 64))), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(family: str) -> None:
    delta = with_random_weights(Delta(example(family), 9, BARE))
    delta.train()(batch(example(family), count=8)).square().sum().backward()
    without_gradient = [name for name, value in delta.named_parameters() if value.grad is None or not value.grad.any()]
    assert without_gradient == []


def test_the_first_output_is_the_classifier_s_bias() -> None:
    delta = Delta(example("basic"), 9, BARE)
    assert delta(batch(example("basic"))).abs().sum() == 0


@pytest.mark.parametrize("size", [63, 65, 75, 97])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_odd_pictures(name: str, size: int, make_source: Callable[..., Source]) -> None:
    source = make_source(name, image_size=size)
    delta = with_random_weights(Delta(make_plan(source, *RATIOS), 4, BARE))
    logits = delta(source(torch.rand(2, 3, size, size), delta.taps))
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"taps": ["layer3.0"]},
        {"taps": ["conv1.0"]},
        {"taps": ["layer1.0", "layer4.0"]},
        {"taps": ["maxpool", "layer1.0.conv1", "layer4.0"]},
    ],
)
def test_taps_by_hand(options: dict[str, list[str]], make_source: Callable[..., Source]) -> None:
    source = make_source(**options)
    delta = with_random_weights(Delta(make_plan(source, *RATIOS), 4, BARE))
    assert set(delta.taps) <= set(options["taps"])
    features = source(torch.rand(2, 3, 64, 64), delta.taps)
    assert torch.equal(delta.eval()(features), delta.export_form()(features))


def test_progress_reaches_every_subscription(make_source: Callable[..., Source]) -> None:
    source = make_source()
    delta = Delta(make_plan(source, *RATIOS), 4, BARE)
    delta.set_progress(0.25)
    assert len(delta.all_subscriptions()) == len(delta.taps) + 1
    assert {subscription.noise for subscription in delta.all_subscriptions()} == {0.5 * 1e-3**0.5}


def test_blocks_fuse_subscriptions_in_their_fusion_convs(make_source: Callable[..., Source]) -> None:
    for name in ("test_resnet", "test_efficientnet", "test_convnext"):
        delta = Delta(make_plan(make_source(name), *RATIOS), 4, BARE)
        for _, subscription, block in delta.levels():
            fusions = [module for module in block.modules() if isinstance(module, FusionConv)]
            assert fusions
            assert all(fusion.weight.shape[1] == fusion.own + subscription.weight_columns for fusion in fusions)


def test_gradient_stays_out_of_the_features(make_source: Callable[..., Source]) -> None:
    source = make_source()
    delta = with_random_weights(Delta(make_plan(source, *RATIOS), 4, BARE))
    features = source(torch.rand(2, 3, 64, 64))
    delta(features).sum().backward()
    inputs: list[Tensor] = [features.images, features.final, features.logits, *features.maps.values()]
    assert all(value.grad is None and not value.requires_grad for value in inputs)
    assert all(value.grad is None for value in source.buffers())
