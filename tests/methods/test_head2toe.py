"""A linear head over features chosen from all layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.head2toe import Head2Toe, Head2ToeConfig, PooledMap
from snow.source import FINAL, LOGITS, Features, Source

CONFIG = {"features": 200, "keep": 0.1, "search": 0.5}


def small(kept: int = 2, **options: float) -> Head2Toe:
    """Over a map of 2 channels on a 2 × 2 grid, the 3 final features and the 2 logits: 13 features."""
    maps = [PooledMap("map", 2, 2), PooledMap(FINAL, 3, 1), PooledMap(LOGITS, 2, 1)]
    return Head2Toe(maps, 4, kept, Head2ToeConfig(**options))


def make_features(count: int = 5) -> Features:
    return Features(
        torch.zeros(count, 0), {"map": torch.randn(count, 2, 6, 6)}, torch.randn(count, 3), torch.randn(count, 2)
    )


def vector(features: Features) -> Tensor:
    """(B, 13), as the paper has it."""
    x = features.maps["map"].unflatten(3, (2, 3)).unflatten(2, (2, 3)).mean((3, 5)).flatten(1)
    return torch.cat([part / part.norm(dim=1, keepdim=True) for part in (x, features.final, features.logits)], 1)


def test_it_is_linear_in_pooled_maps_of_unit_length() -> None:
    method = small()
    torch.nn.init.normal_(method.weight)
    torch.nn.init.normal_(method.bias)
    features = make_features()
    expected = vector(features) @ method.weight.T + method.bias
    torch.testing.assert_close(method.train()(features), expected)


def test_grids_are_the_finest_within_the_budget(resnet: Source) -> None:
    method = Head2Toe.build(resnet, 3, {"features": 200})
    grids = {pooled.name: pooled.grid for pooled in method.maps}
    # 64 pixels; 32 channels at stride 4: 2² · 32 <= 200 < 3² · 32
    assert grids == {"layer1.0": 2, "layer2.0": 2, "layer3.0": 1, "layer4.0": 1, FINAL: 1, LOGITS: 1}
    assert Head2Toe.build(resnet, 3, {"features": 10**6}).maps[-3].grid == 2  # no finer than the map
    assert method.taps == {"layer1.0", "layer2.0", "layer3.0", "layer4.0"}


def test_it_costs_a_weight_for_each_kept_feature_and_class(source: Source) -> None:
    method = Head2Toe.build(source, 7, CONFIG)
    size = sum(pooled.size for pooled in method.maps)
    assert method.weight.shape == (7, size)
    assert method.kept == round(0.1 * size)
    assert method.learned_parameters == 7 * round(0.1 * size) + 7


def test_the_penalty_is_the_group_lasso_until_the_choice_is_made() -> None:
    method = small(penalty=0.5, search=0.25)
    method.penalty().backward()
    assert method.weight.grad.tolist() == [[0.0] * 13] * 4  # not NaN, at zero
    torch.nn.init.normal_(method.weight)
    expected = 0.5 * sum(method.weight[:, index].square().sum().sqrt() for index in range(13))
    torch.testing.assert_close(method.penalty(), expected)
    method.set_progress(0.24)
    assert method.penalty() is not None
    method.set_progress(0.25)
    assert method.penalty() is None


def test_the_longest_weights_are_chosen_once() -> None:
    method = small(kept=3, search=0.5)
    with torch.no_grad():
        method.weight[:, [1, 7, 9]] = torch.tensor([[1.0, -2.0, 3.0]])
        method.weight[0, 4] = 1.5
    assert method.topk_indices().tolist() == [1, 7, 9]
    method.set_progress(0.5)
    with torch.no_grad():
        method.weight[:, 12] = 100.0
    method.set_progress(0.9)
    assert method.topk_indices().tolist() == [1, 7, 9]


def test_after_the_choice_nothing_else_learns() -> None:
    method = small(kept=3, search=0.5).train()
    torch.nn.init.normal_(method.weight)
    method(make_features()).sum().backward()
    assert method.weight.grad.abs().amin() > 0
    method.zero_grad()
    method.set_progress(0.5)
    method(make_features()).sum().backward()
    assert method.weight.grad.abs().amax(0).nonzero().flatten().tolist() == method.topk_indices().tolist()


def test_a_run_that_is_resumed_keeps_the_choice() -> None:
    method, other = small(search=0.5), small(search=0.5)
    torch.nn.init.normal_(method.weight)
    method.set_progress(0.5)
    with torch.no_grad():
        method.weight.copy_(method.weight.flip(1) * 2)
    other.load_state_dict(method.state_dict())
    other.set_progress(0.6)
    assert torch.equal(other.topk_indices(), method.topk_indices())


def test_what_is_exported_holds_the_chosen_features_alone() -> None:
    method = small(kept=3).eval()
    with torch.no_grad():
        method.weight[:, [8, 11, 12]] = torch.randn(4, 3)
    exported = method.export_form()
    assert [pooled.name for pooled in exported.maps] == [FINAL, LOGITS]
    assert exported.index.tolist() == [0, 3, 4]
    assert exported.taps == frozenset()
    assert exported.weight.shape == (4, 3)
    features = make_features()
    torch.testing.assert_close(exported(features), method(features))
    torch.testing.assert_close(exported(features), vector(features) @ method.weight.T)
    assert exported.export_form() is exported
    assert exported.penalty() is None


@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_what_is_saved_answers_alike(
    source: Source,
    progress: float,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    rebuilt: Callable[..., Method],
) -> None:
    method = Head2Toe.build(source, 3, CONFIG)
    features = observe(source, method)
    learn(method, features, progress=progress)
    other = rebuilt(source, method)
    assert other.taps <= method.taps
    subset = Features(
        features.images, {name: features.maps[name] for name in other.taps}, features.final, features.logits
    )
    assert torch.equal(other(subset), method(features))


def test_it_learns_and_the_source_stays(
    source: Source, observe: Callable[..., Features], learn: Callable[..., None]
) -> None:
    method = Head2Toe.build(source, 3, CONFIG)
    source_state = {name: value.clone() for name, value in source.state_dict().items()}
    features = observe(source, method)
    learn(method, features, steps=200)
    learn(method, features, steps=200, progress=0.6)
    assert method(features).argmax(1).tolist() == [0, 1, 2] * 2
    assert all(torch.equal(value, source_state[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    "config", [{"features": 0}, {"keep": 0}, {"keep": 1.5}, {"search": 1}, {"penalty": -1}, {"lasso": 1}]
)
def test_impossible_options_are_refused(resnet: Source, config: dict[str, float]) -> None:
    with pytest.raises(SnowError, match=next(iter(config))):
        Head2Toe.build(resnet, 3, config)
