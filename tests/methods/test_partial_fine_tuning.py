"""A copy of the source's last stages behind one shared map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.partial_fine_tuning import PartialFineTuning
from snow.source import Features, Preprocessing, Source


@pytest.mark.parametrize(
    ("name", "stages", "module"),
    [
        ("test_resnet", 1, "layer3.0"),
        ("test_resnet", 2, "layer2.0"),
        ("test_efficientnet", 1, "blocks.3.0"),
        ("test_convnext", 2, "stages.1.blocks.1"),
        ("densenet121", 1, "features.denseblock3"),
        ("dla34", 1, "level4.tree2"),  # the last block before is one of two branches
        ("legacy_xception", 1, "block12"),  # the stride is inside of the block
    ],
)
def test_an_untrained_copy_gives_the_source_s_final_features(
    make_source: Callable[..., Source], draw: Callable[..., tuple[Tensor, Tensor]], name: str, stages: int, module: str
) -> None:
    source = make_source(name)
    method = PartialFineTuning.build(source, 3, {"stages": stages}).eval()
    assert method.map == module
    features = source(draw(2, 3)[0], method.taps)
    found = method.final_features(features.maps[module])
    assert (found - features.final).abs().max() <= 1e-4 * features.final.abs().max()


@pytest.mark.parametrize(
    ("name", "keep", "shares"),
    [
        ("tf_efficientnet_lite0", 1.0, [(58, 37), (72, 70)]),
        ("resnet50", 1.0, [(59, 20), (86, 56)]),
        ("tf_efficientnet_lite0", 0.125, [(7, 5), (9, 9)]),
        ("resnet50", 0.125, [(12, 4), (15, 9)]),
        ("tf_efficientnet_lite0", 0.25, [(14, 9), (18, 18)]),
        ("resnet50", 0.25, [(16, 5), (22, 13)]),
    ],
)
def test_a_copy_costs_what_the_documentation_says(
    make_source: Callable[..., Source], name: str, keep: float, shares: list[tuple[int, int]]
) -> None:
    """In percent of the source's parameters and multiplications."""
    source = make_source(name, image_size=224)
    images = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    with FlopCounterMode(display=False) as whole:
        source(images, ())
    for stages, expected in enumerate(shares, 1):
        method = PartialFineTuning.build(source, 10, {"stages": stages, "keep": keep}).eval()
        features = source(images, method.taps, final=False)
        with FlopCounterMode(display=False) as part:
            method(features)
        parameters = method.learned_parameters / source.learned_parameters
        multiplications = part.get_total_flops() / whole.get_total_flops()
        assert (round(100 * parameters), round(100 * multiplications)) == expected


def test_only_what_is_behind_the_map_is_learned_and_saved(resnet: Source) -> None:
    one, two = (PartialFineTuning.build(resnet, 3, {"stages": stages}) for stages in (1, 2))
    assert {name.split(".")[1] for name in one.state_dict() if name.startswith("cnn.")} == {"layer4"}
    assert {name.split(".")[1] for name in two.state_dict() if name.startswith("cnn.")} == {"layer3", "layer4"}
    behind = [value for name, value in resnet.cnn.state_dict().items() if name.startswith("layer4.")]
    names = [name for name in one.state_dict() if name.startswith("cnn.")]
    assert len(names) == len(behind)


def test_it_reads_one_map_and_stops_the_pass_there(
    source: Source, observe: Callable[..., Features], learn: Callable[..., None]
) -> None:
    method = PartialFineTuning.build(source, 3)
    features = observe(source, method)
    learn(method, features)
    nothing = torch.zeros(6, 1)
    only_the_map = Features(nothing, dict(features.maps), nothing, nothing)
    assert torch.equal(method(only_the_map), method(features))
    assert (method.uses_final, method.uses_pictures, len(method.taps)) == (False, False, 1)


def test_the_copy_and_the_classifier_learn_and_the_source_stays(
    source: Source,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    reached_parameters: Callable[..., set[str]],
) -> None:
    method = PartialFineTuning.build(source, 3)
    features = observe(source, method)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    learn(method, features)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert reached_parameters(method, features) == set(dict(method.named_parameters()))


@pytest.mark.parametrize("statistics", ["task", "source"])
def test_what_is_saved_answers_alike(
    source: Source,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    rebuilt: Callable[..., Method],
    statistics: str,
) -> None:
    method = PartialFineTuning.build(source, 3, {"stages": 1, "statistics": statistics})
    features = observe(source, method)
    learn(method, features)
    assert torch.equal(rebuilt(source, method)(features), method(features))


@pytest.mark.parametrize("config", [{"stages": 0}, {"stages": 1.5}, {"copy_rate": 0}, {"statistics": "mean"}])
def test_impossible_options_are_refused(resnet: Source, config: dict[str, Any]) -> None:
    with pytest.raises(SnowError, match=next(iter(config))):
        PartialFineTuning.build(resnet, 3, config)


def test_at_least_one_stage_stays_the_source_s(resnet: Source) -> None:
    with pytest.raises(SnowError, match="has maps of 4 stages: method partial copies fewer, not 4"):
        PartialFineTuning.build(resnet, 3, {"stages": 4})


class Net(nn.Module):
    """Two blocks; the second reads what `second` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 1, 1))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(x, self.first(x)).mean((2, 3)))

    def read(self, x: Tensor, first: Tensor) -> Tensor:
        return self.second(first)


class ReadsThePictures(Net):
    def read(self, x: Tensor, first: Tensor) -> Tensor:
        return self.second(first) + x.mean()


class ChangesTheMap(Net):
    def read(self, x: Tensor, first: Tensor) -> Tensor:
        return self.second(first.mul_(2))


@pytest.mark.parametrize(("network", "can"), [(Net, True), (ReadsThePictures, False), (ChangesTheMap, False)])
def test_a_network_that_reads_more_than_the_map_or_changes_it_is_refused(network: type[Net], can: bool) -> None:
    torch.manual_seed(0)
    source = Source(network(), "test/net", "random", Preprocessing(32))
    if can:
        assert PartialFineTuning.build(source, 3, {"stages": 1}).map == "first"
        return
    with pytest.raises(SnowError, match="cannot be cut behind first, because what follows reads more than this map"):
        PartialFineTuning.build(source, 3, {"stages": 1})
