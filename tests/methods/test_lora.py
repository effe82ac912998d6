"""Low-rank adapters beside frozen convolutions."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.lora import Lora
from snow.source import Features, Source


def test_an_adapter_costs_its_rank_in_rows_and_columns(resnet: Source) -> None:
    convolutions = [module for module in resnet.cnn.modules() if isinstance(module, nn.Conv2d)]
    rows = sum(
        conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1] + conv.out_channels for conv in convolutions
    )
    head = (resnet.num_features + 1) * 3
    assert Lora.build(resnet, 3, {"rank": 4}).learned_parameters == 4 * rows + head
    assert Lora.build(resnet, 3, {"rank": 6}).learned_parameters == 6 * rows + head


def test_it_starts_as_the_source(source: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    features = source(draw(4)[0])
    torch.testing.assert_close(Lora.build(source, 3).cnn(features.images), features.final)


def test_an_adapter_adds_a_low_rank_convolution(resnet: Source) -> None:
    method = Lora.build(resnet, 3, {"rank": 2, "alpha": 6})
    layer = method.cnn.get_submodule("layer2.0.conv2")
    down, up = (getattr(layer, name)["default"].weight for name in ("lora_A", "lora_B"))
    nn.init.normal_(up)
    conv = resnet.cnn.get_submodule("layer2.0.conv2")
    weight = conv.weight + 6 / 2 * torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    x = torch.randn(2, conv.in_channels, 8, 8)
    expected = nn.functional.conv2d(x, weight, conv.bias, conv.stride, conv.padding)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_depthwise_convolutions_have_no_adapter(tiny_sources: dict[str, Source]) -> None:
    source = tiny_sources["test_efficientnet"]
    names = {name.split(".lora_")[0] for name, _ in Lora.build(source, 3).cnn.named_parameters()}
    convolutions = [(name, module) for name, module in source.cnn.named_modules() if isinstance(module, nn.Conv2d)]
    assert names == {name for name, conv in convolutions if conv.groups == 1}


def test_linear_layers_inside_the_cnn_have_one(tiny_sources: dict[str, Source]) -> None:
    source = tiny_sources["test_convnext"]
    names = {name.split(".lora_")[0] for name, _ in Lora.build(source, 3).cnn.named_parameters()}
    linear = {name for name, module in source.cnn.named_modules() if isinstance(module, nn.Linear)}
    assert linear - {source.classifier} <= names
    assert source.classifier not in names


def test_convolutions_that_pad_like_tensorflow_fit(make_source: Callable[..., Source]) -> None:
    source = make_source("tf_efficientnet_lite0")
    method = Lora.build(source, 3, {"rank": 1})
    assert "conv_stem.lora_A.default.weight" in dict(method.cnn.named_parameters())
    assert method.cnn(torch.zeros(1, 3, 64, 64)).shape == (1, source.num_features)


def test_nothing_but_adapters_and_head_learns_and_is_saved(
    source: Source,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    reached_parameters: Callable[..., set[str]],
) -> None:
    method = Lora.build(source, 3)
    features = observe(source, method)
    source_state = {name: value.clone() for name, value in source.state_dict().items()}
    learn(method, features)
    assert all(torch.equal(value, source_state[name]) for name, value in source.state_dict().items())
    frozen = [getattr(module, name) for module, name in method._frozen]
    assert all(any(torch.equal(value, other) for other in source_state.values()) for value in frozen)
    saved = set(method.export_form().state_dict())
    assert all(".lora_" in name or name.startswith("classifier.") for name in saved)
    assert reached_parameters(method, features) == saved


def test_batchnorm_is_that_of_the_source_even_while_training(
    resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    features = resnet(draw(4)[0])
    torch.testing.assert_close(Lora.build(resnet, 3).train().cnn(features.images), features.final)


def test_what_is_saved_answers_alike(
    source: Source, observe: Callable[..., Features], learn: Callable[..., None], rebuilt: Callable[..., Method]
) -> None:
    method = Lora.build(source, 3, {"rank": 3, "alpha": 9})
    features = observe(source, method)
    learn(method, features)
    assert torch.equal(rebuilt(source, method)(features), method(features))


@pytest.mark.parametrize("config", [{"rank": 0}, {"rank": 2.5}, {"alpha": 0}, {"bias": True}])
def test_impossible_options_are_refused(resnet: Source, config: dict[str, float]) -> None:
    with pytest.raises(SnowError, match=next(iter(config))):
        Lora.build(resnet, 3, config)


def test_without_peft_one_line_says_how_to_get_it(resnet: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SnowError, match=r"pip install 'snow-cnn\[peft\]'"):
        Lora.build(resnet, 3)
