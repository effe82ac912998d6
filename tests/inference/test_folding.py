"""Folding: what is left out, and what must not be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snow.inference.folding import find_foldable, fold, fold_all
from snow.inference.fused import fuse_for_inference
from snow.source import Source


def shaken(network: nn.Module) -> nn.Module:
    """With statistics and weights that are not those of a fresh BatchNorm."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
    return network.eval()


def run(network: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        return [network(torch.arange(96.0).view(1, 2, 6, 8).sin())]


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_norm_behind_a_convolution_is_gone() -> None:
    chain = shaken(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    )
    light = fold_all(chain, run)
    assert (norms(chain), norms(light)) == (2, 0)
    torch.testing.assert_close(run(light), run(chain))


def test_what_is_the_same_is_shared() -> None:
    chain = shaken(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    light = fold_all(chain, run)
    assert light.get_submodule("3").weight is chain.get_submodule("3").weight
    assert light.get_submodule("0").weight is not chain.get_submodule("0").weight
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())


def test_what_was_found_once_holds_for_others_of_the_same_structure() -> None:
    one, other = (
        shaken(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
        for _ in range(2)
    )
    light = fold(other, find_foldable(one, run))
    assert norms(light) == 0
    torch.testing.assert_close(run(light), run(other))
    assert not torch.allclose(run(light)[0], run(one)[0])


def test_norms_that_something_else_feeds_stay() -> None:
    chain = shaken(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    assert norms(fold_all(chain, run)) == 2


class Twice(nn.Module):
    """The convolution is seen by more than its BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def test_a_convolution_that_others_see_is_left_as_it_is() -> None:
    network = shaken(Twice())
    light = fold_all(network, run)
    assert norms(light) == 1
    assert torch.equal(run(light)[0], run(network)[0])


def test_a_tap_on_a_norm_stays_a_tap(make_source: Callable[..., Source]) -> None:
    source = make_source("test_efficientnet", taps=["blocks.1.0.bn1"])
    pictures = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    for _ in range(2):  # with the hooks of an earlier pass, too
        light = fuse_for_inference(source)
        assert norms(light) == 0
        found, expected = (one(pictures).maps["blocks.1.0.bn1"] for one in (light, source))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_source_itself_stays_as_it_is(source: Source) -> None:
    before = {name: value.clone() for name, value in source.cnn.state_dict().items()}
    light = fuse_for_inference(source)
    assert all(torch.equal(value, before[name]) for name, value in source.cnn.state_dict().items())
    assert norms(light) == 0
    assert list(light.parameters()) == []
