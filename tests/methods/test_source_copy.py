"""What is frozen in a copy is neither learned, averaged, exchanged nor saved, and moves with it all the same."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from snow.methods import Method
from snow.methods.lora import Lora
from snow.methods.model_patch import ModelPatch
from snow.source import Features, Source


@pytest.fixture(params=[ModelPatch, Lora])
def method(request: pytest.FixtureRequest, resnet: Source) -> Method:
    return request.param.build(resnet, 3)


def test_frozen_weights_are_neither_parameters_nor_buffers(method: Method, resnet: Source) -> None:
    own = {*method.state_dict(), *dict(method.named_parameters()), *dict(method.named_buffers())}
    assert [name for name in own if name.endswith("layer4.0.conv2.weight")] == []
    saved = sum(value.numel() for value in method.state_dict().values())
    assert saved < resnet.learned_parameters / 5
    assert all(value.requires_grad for value in method.parameters())


def test_frozen_weights_follow_a_move(
    method: Method, resnet: Source, observe: Callable[..., Features], learn: Callable[..., None]
) -> None:
    features = observe(resnet, method)
    learn(method, features)
    expected = method(features)
    wide = Features(features.images.double(), {}, features.final.double(), features.logits.double())
    moved = method.double()(wide)
    assert moved.dtype == torch.float64
    torch.testing.assert_close(moved.float(), expected)


def test_a_deep_copy_shares_nothing(
    method: Method, resnet: Source, observe: Callable[..., Features], learn: Callable[..., None]
) -> None:
    features = observe(resnet, method)
    other = copy.deepcopy(method)
    learn(other, features)
    assert not torch.equal(other(features), method.eval()(features))
    other.double()
    convolutions = [module for module in method.modules() if isinstance(module, nn.Conv2d)]
    assert {convolution.weight.dtype for convolution in convolutions} == {torch.float32}
