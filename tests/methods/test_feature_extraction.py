"""A frozen trunk and a narrow last stage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.feature_extraction import FeatureExtraction
from snow.source import Features, Source

CLASSES = (101, 47, 40, 196, 200)


def test_five_tasks_on_a_resnet50_have_the_size_of_table_5(make_source: Callable[..., Source]) -> None:
    source = make_source("resnet50")
    learned = [FeatureExtraction.build(source, count).learned_parameters for count in CLASSES]
    assert learned == [382_208 + 2 * 70_400 + 257 * count for count in CLASSES]
    assert round((source.learned_parameters + sum(learned)) / 1e6, 1) == 28.3


@pytest.mark.parametrize(
    ("name", "module", "channels", "blocks"),
    [
        ("test_resnet", "layer3.0", 192, 1),
        ("test_efficientnet", "blocks.3.0", 48, 1),  # 128 inside the block
        ("test_convnext", "stages.2.blocks.3", 48, 2),
        ("densenet121", "features.denseblock3", 1024, 16),  # 32 from each of its layers
    ],
)
def test_the_trunk_ends_before_the_coarsest_stride(
    make_source: Callable[..., Source], name: str, module: str, channels: int, blocks: int
) -> None:
    stage = FeatureExtraction.build(make_source(name), 3).stage
    assert (stage.map, stage.levels[0].own, len(stage.levels)) == (module, channels, blocks)
    assert [level.stride for level in stage.levels] == [2] + [1] * (blocks - 1)


def test_it_sees_the_whole_of_one_map_and_nothing_else(source: Source, observe: Callable[..., Features]) -> None:
    method = FeatureExtraction.build(source, 3)
    torch.nn.init.normal_(method.classifier.weight)
    method.eval()
    features = observe(source, method)
    (x,) = features.maps.values()
    map_only = Features(torch.zeros(6, 3, 64, 64), dict(features.maps), torch.zeros(6, 1), torch.zeros(6, 1))
    torch.testing.assert_close(method(map_only), method(features), rtol=0, atol=0)
    for channel in range(x.shape[1]):
        other = x.clone()
        other[:, channel] += 10
        assert not torch.equal(method(_with(map_only, other)), method(features))


def _with(features: Features, x: torch.Tensor) -> Features:
    return Features(features.images, dict.fromkeys(features.maps, x), features.final, features.logits)


def test_the_stage_and_the_classifier_learn_and_the_source_stays(
    source: Source,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    reached_parameters: Callable[..., set[str]],
) -> None:
    method = FeatureExtraction.build(source, 3)
    features = observe(source, method)
    source_state = {name: value.clone() for name, value in source.state_dict().items()}
    learn(method, features)
    assert all(torch.equal(value, source_state[name]) for name, value in source.state_dict().items())
    assert reached_parameters(method, features) == set(dict(method.named_parameters()))


def test_only_shortcuts_that_change_the_shape_are_projections(make_source: Callable[..., Source]) -> None:
    method = FeatureExtraction.build(make_source("resnet18"), 3)
    shortcuts = [any("shortcut" in name for name, _ in block.named_parameters()) for block in method.blocks]
    assert shortcuts == [True, False]


def test_what_is_saved_answers_alike(
    source: Source, observe: Callable[..., Features], learn: Callable[..., None], rebuilt: Callable[..., Method]
) -> None:
    method = FeatureExtraction.build(source, 3, {"width": 0.25})
    features = observe(source, method)
    learn(method, features)
    assert torch.equal(rebuilt(source, method)(features), method(features))


@pytest.mark.parametrize("config", [{"width": 0}, {"width": 1.5}, {"breadth": 0.5}])
def test_impossible_options_are_refused(resnet: Source, config: dict[str, float]) -> None:
    with pytest.raises(SnowError, match="width"):
        FeatureExtraction.build(resnet, 3, config)


def test_a_source_of_one_stride_is_refused(make_source: Callable[..., Source]) -> None:
    with pytest.raises(SnowError, match="finer than stride 32"):
        FeatureExtraction.build(make_source(taps=["layer4.0"]), 3)
