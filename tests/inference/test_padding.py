"""TensorFlow's padding, without a copy."""

from __future__ import annotations

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from snow.inference.folding import pad_evenly
from snow.inference.fused import example, fuse_for_inference
from snow.source import Source


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 12)])
def test_the_answer_is_the_same(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Conv2dSame(6, 6, kernel, stride, groups=6), nn.ReLU()).requires_grad_(requires_grad=False)
    maps = torch.randn(2, 6, *size)
    before = network(maps)
    pad_evenly(network, lambda: network(maps))
    assert not isinstance(network[0], Conv2dSame)
    torch.testing.assert_close(network(maps), before)


def test_others_stay() -> None:
    network = nn.Sequential(Conv2dSame(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2, 1, groups=4))
    kept = list(network)
    pad_evenly(network, lambda: network(torch.zeros(1, 3, 8, 8)))
    assert list(network) == kept


def test_a_light_source_copies_no_map() -> None:
    torch.manual_seed(0)
    source = Source.open("tf_efficientnet_lite0", pretrained=False, image_size=64)
    light = fuse_for_inference(source)
    left = [module for module in light.modules() if isinstance(module, Conv2dSame)]
    assert [module.groups for module in left] == [1]
    picture = example(source)
    before, after = source(picture), light(picture)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    assert before.maps.keys() == after.maps.keys()
