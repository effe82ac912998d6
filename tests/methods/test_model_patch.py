"""Patches inside a frozen copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.model_patch import PATCHES, ModelPatch
from snow.source import Features, Source

CLASSES = (101, 47, 40, 196, 200)


@pytest.fixture(params=PATCHES)
def patch(request: pytest.FixtureRequest) -> str:
    return request.param


def learned(method: Method) -> dict[str, Tensor]:
    """What learns inside the copy."""
    return {name: value for name, value in method.cnn.named_parameters() if value.requires_grad}


def test_five_tasks_on_a_resnet50_have_the_size_of_table_5(make_source: Callable[..., Source]) -> None:
    source = make_source("resnet50")
    heads = sum(2049 * count for count in CLASSES)
    totals = {}
    for patch in PATCHES:
        inside = ModelPatch.build(source, 2, {"patch": patch}).learned_parameters - 2049 * 2
        totals[patch] = round((source.learned_parameters + heads + 5 * inside) / 1e6, 2)
    assert totals == {"scale_bias": 27.02, "depthwise": 26.93, "both": 27.19}
    assert ModelPatch.build(source, 2).options.patch == "depthwise"


def test_it_starts_as_the_source(source: Source, patch: str, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    features = source(draw(4)[0])
    method = ModelPatch.build(source, 3, {"patch": patch}).eval()
    torch.testing.assert_close(method.cnn(features.images), features.final)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.LayerNorm])
def test_scale_and_bias_are_those_of_the_normalisation_layers(
    tiny_sources: dict[str, Source], kind: type[nn.Module]
) -> None:
    source = tiny_sources["test_resnet" if kind is nn.BatchNorm2d else "test_convnext"]
    method = ModelPatch.build(source, 3, {"patch": "scale_bias"})
    norms = [(name, module) for name, module in source.cnn.named_modules() if isinstance(module, kind)]
    assert set(learned(method)) == {f"{name}.{leaf}" for name, _ in norms for leaf in ("weight", "bias")}


def test_a_cnn_without_normalisation_gets_a_scale_and_a_bias_behind_each_convolution(
    draw: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    source = Source.from_torchvision("squeezenet1_1", pretrained=False, image_size=64)
    method = ModelPatch.build(source, 3, {"patch": "scale_bias"}).eval()
    convolutions = [module for module in source.cnn.modules() if isinstance(module, nn.Conv2d)][
        :-1
    ]  # the last classifies
    assert method.learned_parameters == sum(2 * conv.out_channels for conv in convolutions) + 513 * 3
    features = source(draw(2)[0])
    torch.testing.assert_close(method.cnn(features.images), features.final)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_depthwise_filters_that_are_there_learn_in_place(tiny_sources: dict[str, Source], name: str) -> None:
    source = tiny_sources[name]
    convolutions = [(path, module) for path, module in source.cnn.named_modules() if isinstance(module, nn.Conv2d)]
    depthwise = {f"{path}.weight" for path, conv in convolutions if conv.groups == conv.in_channels > 1}
    assert depthwise
    assert set(learned(ModelPatch.build(source, 3))) == depthwise


def test_other_spatial_convolutions_get_depthwise_filters_behind_them(resnet: Source) -> None:
    method = ModelPatch.build(resnet, 3)
    spatial = [
        module for module in resnet.cnn.modules() if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    assert sorted(value.shape for value in learned(method).values()) == sorted(
        torch.Size([conv.out_channels, 1, 3, 3]) for conv in spatial
    )


def test_patches_learn_and_all_else_stays(
    source: Source,
    patch: str,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    reached_parameters: Callable[..., set[str]],
) -> None:
    method = ModelPatch.build(source, 3, {"patch": patch})
    features = observe(source, method)
    source_state = {name: value.clone() for name, value in source.state_dict().items()}
    learn(method, features)
    assert all(torch.equal(value, source_state[name]) for name, value in source.state_dict().items())
    frozen = [getattr(module, name) for module, name in method._frozen]
    assert all(any(torch.equal(value, other) for other in source_state.values()) for value in frozen)
    assert reached_parameters(method, features) == set(dict(method.named_parameters()))


def test_each_task_has_its_own_statistics_and_saves_them(
    resnet: Source, patch: str, observe: Callable[..., Features], learn: Callable[..., None]
) -> None:
    source_state = dict(resnet.cnn.named_buffers())
    statistics = []
    for seed in (1, 2):
        method = ModelPatch.build(resnet, 3, {"patch": patch})
        learn(method, observe(resnet, method, seed=seed), steps=1)
        saved = method.export_form().state_dict()
        statistics.append({name: value for name, value in saved.items() if name.endswith("running_mean")})
    assert len(statistics[0]) == sum(name.endswith("running_mean") for name in source_state)
    for name, value in statistics[0].items():
        assert not torch.equal(value, statistics[1][name])
        assert not torch.equal(value, source_state[name.removeprefix("cnn.")])


def test_nothing_draws_a_patch_to_zero(source: Source, patch: str) -> None:
    method = ModelPatch.build(source, 3, {"patch": patch})
    decayed = {
        id(value) for group in method.parameter_groups(0.1) if group["weight_decay"] for value in group["params"]
    }
    assert decayed == {id(method.classifier.weight)}


def test_what_is_saved_answers_alike(
    source: Source,
    patch: str,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    rebuilt: Callable[..., Method],
) -> None:
    method = ModelPatch.build(source, 3, {"patch": patch})
    features = observe(source, method)
    learn(method, features)
    assert torch.equal(rebuilt(source, method)(features), method(features))


def test_an_unknown_patch_is_refused(resnet: Source) -> None:
    with pytest.raises(SnowError, match="there are scale_bias, depthwise, both"):
        ModelPatch.build(resnet, 3, {"patch": "pointwise"})
