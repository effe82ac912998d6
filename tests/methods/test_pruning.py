"""Copies that keep some of the channels inside their blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d, SEModule
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods import METHODS, Method
from snow.methods.chains import Chain, find_chains, select
from snow.methods.partial_fine_tuning import PartialFineTuning
from snow.methods.pruning import prune
from snow.methods.tail import Tail
from snow.source import Features, Source


class Unit(nn.Module):
    """An inverted residual with every kind of layer that passes channels on, and with one that reads them besides."""

    def __init__(self, read_inside: bool = False, gated: bool = True) -> None:
        super().__init__()
        self.expand = nn.Conv2d(4, 24, 1)
        self.norm = nn.BatchNorm2d(24)
        self.act = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False)
        self.norm_act = BatchNormAct2d(24)
        self.gate = SEModule(24) if gated else nn.Identity()
        self.reduce = nn.Conv2d(24, 4, 1, bias=False)
        self.read_inside = read_inside

    def forward(self, x: Tensor) -> Tensor:
        inside = self.gate(self.norm_act(self.depthwise(self.act(self.norm(self.expand(x))))))
        factor = inside.mean((1, 2, 3), keepdim=True).sigmoid() if self.read_inside else 1.0
        return x + factor * self.reduce(inside)


def made(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(Unit(**options), Unit(**options)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_()  # ty: ignore[call-non-callable]
    return network


@pytest.fixture
def x() -> Tensor:
    return torch.randn(16, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def test_chains_lead_from_layer_to_layer(x: Tensor) -> None:
    network = made()
    between = ("norm", "depthwise", "norm_act", "gate")
    expected = [Chain(f"{n}.expand", tuple(f"{n}.{name}" for name in between), f"{n}.reduce", 24, 16) for n in (0, 1)]
    assert find_chains(network, 0.5, lambda: network(x)) == expected
    assert [Chain.from_list(chain.to_list()) for chain in expected] == expected


def test_what_something_else_reads_is_in_no_chain(x: Tensor) -> None:
    network = made(read_inside=True)
    assert find_chains(network, 0.5, lambda: network(x)) == []


def test_a_bottleneck_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    x = torch.randn(5, 12)
    assert find_chains(network, 0.5, lambda: network(x)) == [Chain("2", (), "4", 12, 8)]


def test_a_layer_that_runs_twice_is_left_alone() -> None:
    layer = nn.Linear(8, 8)
    x = torch.randn(5, 8)
    once = nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 8)).eval()
    assert len(find_chains(once, 0.5, lambda: once(x))) == 1
    twice = nn.Sequential(layer, nn.ReLU(), layer).eval()
    assert find_chains(twice, 0.5, lambda: twice(x)) == []


@pytest.mark.parametrize(("keep", "kept"), [(1.0, 24), (0.5, 16), (0.34, 8), (0.01, 8)])
def test_kept_channels_are_a_multiple_of_eight(x: Tensor, keep: float, kept: int) -> None:
    network = made()
    assert {chain.kept for chain in find_chains(network, keep, lambda: network(x))} == {kept}
    network, x = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)).eval(), torch.randn(3, 5)
    assert {chain.kept for chain in find_chains(network, keep, lambda: network(x))} == {5}


def test_kept_channels_answer_as_they_did(x: Tensor) -> None:
    """Channels that nothing reads can go: the rest of the network makes the same of the others."""
    network = made(gated=False)
    chains = find_chains(network, 0.5, lambda: network(x))
    with torch.no_grad():
        for chain in chains:
            network.get_submodule(chain.last).weight[:, ::3] = 0.0  # ty: ignore[invalid-assignment]
        expected = network(x)
        for chain in chains:
            select(network, chain, torch.tensor([number for number in range(24) if number % 3]))
    torch.testing.assert_close(network(x), expected)
    assert isinstance(depthwise := network.get_submodule("0.depthwise"), nn.Conv2d)
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (16, 16, 16)


def test_channels_that_say_the_same_make_up_for_each_other(x: Tensor) -> None:
    """Of three copies of each channel one is enough, once the layer behind it is fitted again."""
    network = made(gated=False)
    with torch.no_grad():
        for unit in network:
            for module in (unit.expand, unit.norm, unit.depthwise, unit.norm_act):  # ty: ignore[unresolved-attribute]
                for value in module.state_dict().values():
                    if value.ndim:
                        value.copy_(value[:8].repeat(3, *[1] * (value.ndim - 1)))
            unit.reduce.weight.mul_(torch.tensor([1.0, 0.4, 0.2]).repeat_interleave(8)[:, None, None])  # ty: ignore[unresolved-attribute]
        expected = network(x)
    prune(network, find_chains(network, 1 / 3, lambda: network(x)), lambda: network(x))
    assert sum(value.numel() for value in network.parameters()) < 2 * (4 * 8 + 8 * 16 + 4 * 8)
    with torch.no_grad():
        assert (network(x) - expected).square().mean() < 1e-3 * expected.var()


def test_a_convolution_over_several_positions_is_fitted_again(x: Tensor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3, stride=2, padding=1)).eval()
    chains = find_chains(network, 0.5, lambda: network(x))
    with torch.no_grad():
        expected = network(x)
        sliced = made_of(network, chains, x, refit=False)
        fitted = made_of(network, chains, x, refit=True)
    assert (fitted - expected).square().mean() < 0.7 * (sliced - expected).square().mean()


def made_of(network: nn.Sequential, chains: list[Chain], x: Tensor, refit: bool) -> Tensor:
    pruned = copy.deepcopy(network)
    prune(pruned, chains, (lambda: pruned(x)) if refit else None)
    return pruned(x)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "densenet121"])
@pytest.mark.parametrize("method", ["partial", "tail"])
def test_a_pruned_copy_is_smaller_from_the_beginning_and_stays_as_small(
    make_source: Callable[..., Source], draw: Callable[..., tuple[Tensor, Tensor]], name: str, method: str
) -> None:
    source = make_source(name)
    whole, pruned = (METHODS[method].build(source, 3, {"keep": keep}) for keep in (1.0, 0.01))
    before = {key: value.clone() for key, value in copied(pruned).state_dict().items()}
    images, labels = draw(24, 3)
    pruned.eval()
    pruned.calibrate([(source(images, pruned.taps), labels)])
    after = copied(pruned).state_dict()
    assert {key: value.shape for key, value in before.items()} == {key: value.shape for key, value in after.items()}
    assert any(not torch.equal(before[key], after[key]) for key in before)
    sizes = [sum(value.numel() for value in copied(one).parameters()) for one in (whole, pruned)]
    assert sizes[1] < 0.9 * sizes[0]


def copied(method: Method) -> PartialFineTuning:
    part = method.copy if isinstance(method, Tail) else method
    assert isinstance(part, PartialFineTuning)
    return part


def test_channels_chosen_by_pictures_are_nearer_to_the_whole_copy(
    resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    images, labels = draw(32, 3)
    pruned = PartialFineTuning.build(resnet, 3, {"stages": 2, "keep": 0.5}).eval()
    features: Features = resnet(images, pruned.taps)
    x = features.maps[pruned.map]
    with torch.no_grad():
        before = pruned.final_features(x) - features.final
        pruned.calibrate([(features, labels)])
        after = pruned.final_features(x) - features.final
    assert after.square().mean() < 0.5 * before.square().mean()


def test_impossible_shares_are_one_line(resnet: Source, make_source: Callable[..., Source]) -> None:
    with pytest.raises(SnowError, match=r"keep is a ratio in \(0, 1\], not 0"):
        PartialFineTuning.build(resnet, 3, {"keep": 0})
