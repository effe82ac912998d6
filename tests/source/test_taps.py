"""Taps of CNNs of every kind, in the order of execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.source import Source, Tap, discover
from snow.source.dry_run import dry_run
from snow.source.taps import select_taps

# architecture, side of the picture, taps, their channels together (after the published tables of each network)
CNNS = [
    ("resnet18", 64, 8, 2 * (64 + 128 + 256 + 512)),
    ("resnet50", 64, 16, 15104),
    ("resnext50_32x4d", 64, 16, 15104),
    ("wide_resnet50_2", 64, 16, 15104),
    ("regnetx_002", 64, 13, 24 + 56 + 4 * 152 + 7 * 368),
    ("regnety_002", 64, 13, 24 + 56 + 4 * 152 + 7 * 368),
    ("efficientnet_b0", 64, 16, 8960),
    ("tf_efficientnet_lite0", 64, 16, 8960),
    ("mobilenetv2_050", 64, 17, 3616),
    ("mobilenetv3_small_050", 64, 11, 1328),
    ("mnasnet_small", 64, 15, 3248),
    ("convnext_atto", 64, 12, 2 * 40 + 2 * 80 + 6 * 160 + 2 * 320),
    ("densenet121", 64, 58, 58 * 32),
    ("vgg11", 64, 8, 64 + 128 + 2 * 256 + 4 * 512),
    ("inception_v3", 128, 11, 256 + 2 * 288 + 5 * 768 + 1280 + 2 * 2048),
    ("dla34", 64, 12, 2 * 64 + 4 * 128 + 4 * 256 + 2 * 512),
    ("repvgg_a0", 64, 22, 48 + 2 * 48 + 4 * 96 + 14 * 192 + 1280),
    ("torchvision/mobilenet_v2", 64, 17, 7136),
    ("torchvision/mnasnet0_5", 64, 16, 4056),
    ("torchvision/squeezenet1_1", 64, 8, 2 * (128 + 256 + 384 + 512)),
    ("torchvision/googlenet", 64, 9, 256 + 480 + 3 * 512 + 528 + 2 * 832 + 1024),
    ("torchvision/shufflenet_v2_x0_5", 64, 16, 4 * 48 + 8 * 96 + 4 * 192),
    ("torchvision/vgg11_bn", 64, 8, 64 + 128 + 2 * 256 + 4 * 512),
]

# These run for real as well: one of each kind, small ones.
RUN = [
    ("resnet18", 64),
    ("regnety_002", 64),
    ("tf_efficientnet_lite0", 64),
    ("mobilenetv2_050", 64),
    ("mobilenetv3_small_050", 64),
    ("mnasnet_small", 64),
    ("convnext_atto", 64),
    ("densenet121", 64),
    ("inception_v3", 128),
    ("dla46_c", 64),
    ("ghostnet_050", 64),
    ("hrnet_w18_small", 64),
    ("resnet18", 75),
    ("torchvision/mobilenet_v2", 64),
    ("torchvision/mnasnet0_5", 64),
    ("torchvision/squeezenet1_1", 65),
    ("torchvision/shufflenet_v2_x0_5", 64),
]

INVERTED = {
    "tf_efficientnet_lite0",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "torchvision/mobilenet_v2",
    "torchvision/mnasnet0_5",
}


@pytest.mark.parametrize(("spec", "size", "count", "channels"), CNNS)
def test_known_cnns(spec: str, size: int, count: int, channels: int, weightless: Callable[..., Source]) -> None:
    taps = weightless(spec, size).taps
    assert (len(taps), sum(tap.channels for tap in taps)) == (count, channels)
    assert len({tap.name for tap in taps}) == count


@pytest.fixture(scope="module", params=RUN, ids=lambda run: f"{run[0]}-{run[1]}")
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[str, Source]]:
    spec, size = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield spec, Source.open(spec, pretrained=False, image_size=size)


def test_a_real_pass_gives_what_was_announced(opened: tuple[str, Source]) -> None:
    """Channels, strides and order as independent hooks see them; nothing behind a tap works on its map in place."""
    source = opened[1]
    size = source.preprocessing.image_size
    captured: dict[str, Tensor] = {}
    hooks = [
        source.cnn.get_submodule(tap.name).register_forward_hook(
            lambda _m, _i, output, name=tap.name: captured.setdefault(name, output.clone())
        )
        for tap in source.taps
    ]
    maps = source(torch.rand(2, 3, size, size)).maps
    for hook in hooks:
        hook.remove()
    assert list(captured) == [tap.name for tap in source.taps] == list(maps)
    for tap in source.taps:
        height, width = maps[tap.name].shape[2:]
        assert maps[tap.name].shape[:2] == (2, tap.channels)
        assert height == width > 1
        assert tap.stride == 2 ** round(math.log2(size / width))
        assert torch.equal(maps[tap.name], captured[tap.name])


def test_inverted_bottlenecks_give_what_their_projection_sees(opened: tuple[str, Source]) -> None:
    spec, source = opened
    if spec not in INVERTED:
        assert all(tap.name == tap.block for tap in source.taps if spec in {"resnet18", "convnext_atto"})
        return
    size = source.preprocessing.image_size
    inputs: dict[str, Tensor] = {}
    out_channels: dict[str, int] = {}
    for tap in source.taps:
        last = [module for module in source.cnn.get_submodule(tap.block).modules() if isinstance(module, nn.Conv2d)][-1]
        last.register_forward_pre_hook(lambda _m, i, name=tap.name: inputs.__setitem__(name, i[0].clone()))
        out_channels[tap.name] = last.out_channels
    maps = source(torch.rand(1, 3, size, size)).maps
    for tap in source.taps:
        assert torch.equal(maps[tap.name], inputs[tap.name])
        assert tap.channels > out_channels[tap.name]


class Unit(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.second = nn.Conv2d(out, out, 3, 1, 1)  # defined before what is computed before it
        self.first = nn.Conv2d(into, out, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu()


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Sequential(Unit(16, 24, 2), Unit(24, 24, 1))  # here too
        self.layer1 = nn.Sequential(Unit(8, 16, 2))
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.conv_stem(x))).mean((2, 3)))


class Renamed(nn.Module):
    """`Named` with names that lie."""

    def __init__(self, named: Named) -> None:
        super().__init__()
        self.head = named.layer2
        self.fc = named.layer1
        self.classifier = named.conv_stem
        self.layer1 = named.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.layer1(self.head(self.fc(self.classifier(x))).mean((2, 3)))


def test_order_is_that_of_computing_and_not_of_definition() -> None:
    taps = discover(Named(), 64)
    assert [(tap.name, tap.channels, tap.stride) for tap in taps] == [
        ("layer1.0", 16, 4),
        ("layer2.0", 24, 8),
        ("layer2.1", 24, 8),
    ]


def test_names_are_never_read() -> None:
    named = Named()
    before, after = discover(named, 64), discover(Renamed(named), 64)
    assert [(tap.channels, tap.stride) for tap in before] == [(tap.channels, tap.stride) for tap in after]
    assert [tap.name for tap in after] == ["fc.0", "head.0", "head.1"]


def test_discovery_leaves_no_hook_and_no_gradient() -> None:
    named = Named()
    discover(named, 64)
    assert not any(module._forward_hooks for module in named.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in named.parameters())


@pytest.mark.parametrize(
    "layers", [[nn.Flatten(), nn.Linear(3 * 16**2, 8)], [nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 8, 1)]]
)
def test_what_gives_neither_maps_nor_tokens_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(SnowError, match="offers no feature map to subscribe to: is it an image backbone?"):
        discover(nn.Sequential(*layers), 16)


def test_maps_with_channels_behind_space_are_offered_as_maps(weightless: Callable[..., Source]) -> None:
    """A hybrid whose transformer stages keep (B, H, W, C): a swapped axis would announce nonsense."""
    taps = weightless("maxvit_tiny_tf_224", 224).taps
    assert taps
    assert {(tap.channels, tap.stride) for tap in taps} <= {
        (64, 2),
        *((channels, stride) for stride in (4, 8, 16, 32) for channels in (64, 128, 256, 512, 1024, 2048)),
    }


@pytest.mark.parametrize(("spec", "size"), [("inception_v3", 32), ("vgg11", 16), ("vit_tiny_patch16_224", 64)])
def test_pictures_of_an_impossible_size_are_one_line(spec: str, size: int, weightless: Callable[..., Source]) -> None:
    with pytest.raises(SnowError, match=f"cannot take pictures of {size} pixels") as caught:
        weightless(spec, size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"taps": ["layer2.0"]}, ["layer2.0"]),
        ({"taps": ["layer[23].*"]}, ["layer2.0", "layer3.0"]),
        ({"taps": ["layer4.0", "layer1.0"]}, ["layer1.0", "layer4.0"]),
        ({"taps": ["layer*", "layer1.0"]}, ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ({"taps": ["layer2.0", "maxpool"]}, ["maxpool", "layer2.0"]),
        ({"taps": ["layer2.0.conv1"]}, ["layer2.0.conv1"]),
        ({"without_taps": ["layer1.*"]}, ["layer2.0", "layer3.0", "layer4.0"]),
        ({"without_taps": ["*1*", "*3*"]}, ["layer2.0", "layer4.0"]),
        ({"taps": ["layer*"], "without_taps": ["layer4.0"]}, ["layer1.0", "layer2.0", "layer3.0"]),
    ],
)
def test_taps_by_hand(make_source: Callable[..., Source], options: dict[str, Any], expected: list[str]) -> None:
    source = make_source("test_resnet", **options)
    assert [tap.name for tap in source.taps] == expected
    for tap in source.taps:
        value = source(torch.rand(1, 3, 64, 64), [tap.name]).maps[tap.name]
        assert value.shape == (1, tap.channels, 64 // tap.stride, 64 // tap.stride)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": ["layer9"]}, "no tap 'layer9': there are layer1.0, layer2.0, layer3.0, layer4.0"),
        ({"taps": ["fc"]}, "no tap 'fc'"),
        ({"taps": ["layer1.0", "layer5.*"]}, r"no tap 'layer5.\*'"),
        ({"taps": []}, "every tap was left out"),
        ({"without_taps": ["*"]}, "every tap was left out"),
        ({"without_taps": ["layer9"]}, "no tap 'layer9' to leave out: there are layer1.0"),
        ({"taps": ["layer1.0"], "without_taps": ["layer2.0"]}, "to leave out: there are layer1.0"),
    ],
)
def test_impossible_selections_are_one_line(
    make_source: Callable[..., Source], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SnowError, match=message):
        make_source("test_resnet", **options)


def test_without_names_all_taps_are_selected() -> None:
    named = Named()
    discovered, outputs = discover(named, 64), dry_run(named, 64)
    assert select_taps(outputs, discovered, 64) == discovered
    assert select_taps(outputs, discovered, 64, ["layer1.0"]) == (Tap("layer1.0", 16, 4, "layer1.0"),)
