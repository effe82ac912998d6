"""Sources of Hugging Face transformers: what a model gives, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from source.tiny_transformers import TOKENS, draw_pictures, save_model, write_config

from snow.errors import SnowError
from snow.hub import Hub
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS
from snow.source import Source, meta_source, transformers_model

pytest.importorskip("transformers")


def test_it_gives_what_the_model_gives(
    model_name: str, opened_model: Callable[[str], Source], saved_model: Callable[..., Any]
) -> None:
    source, (_, model) = opened_model(model_name), saved_model(model_name)
    features = source(draw_pictures(source))
    with torch.no_grad():
        output = model(pixel_values=features.images)
    if "logits" in output:
        torch.testing.assert_close(features.logits, output.logits)
    else:
        assert not features.logits.any()  # no classes: a head of zeros
        torch.testing.assert_close(features.final[:, :48], output.pooler_output)


def test_taps_are_maps_that_lie_as_the_picture_does(model_name: str, opened_model: Callable[[str], Source]) -> None:
    source = opened_model(model_name)
    features = source(draw_pictures(source))
    assert len(source.taps) >= 2
    assert source.gives_tokens == (model_name in ("vit", "dinov2", "swin"))
    size, first = source.preprocessing.image_size, source.taps[0].name
    for tap in source.taps:
        assert features.maps[tap.name].shape == (2, tap.channels, size // tap.stride, size // tap.stride)
    picture = draw_pictures(source, 1).float() / 255
    changed = picture.clone()
    changed[:, :, : size // 2, size // 2 :] = changed[:, :, : size // 2, size // 2 :].flip(-1)
    change = (source(changed, [first]).maps[first] - source(picture, [first]).maps[first]).abs().mean((0, 1))
    assert torch.nn.functional.adaptive_avg_pool2d(change[None, None], 2).flatten().argmax() == 1


def test_a_folded_source_gives_the_same(model_name: str, opened_model: Callable[[str], Source]) -> None:
    source = opened_model(model_name)
    expected, folded = source(draw_pictures(source)), fuse_for_inference(source)(draw_pictures(source))
    for value, other in zip(
        (*expected.maps.values(), expected.final), (*folded.maps.values(), folded.final), strict=True
    ):
        assert (other - value).abs().max() <= 1e-4 * value.abs().max()


@pytest.mark.parametrize("method", ["snow", "fo", "fe", "ft", "lora", "head2toe", "lf"])
@pytest.mark.parametrize("model_name", ["swin", "resnet"])
def test_methods_answer_and_have_gradients(model_name: str, method: str, opened_model: Callable[[str], Source]) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    source = opened_model(model_name)
    built = METHODS[method].build(source, 3)
    built.eval()
    built.calibrate([(source(draw_pictures(source), built.taps), torch.tensor([0, 1]))])
    logits = built.train()(source(draw_pictures(source), built.taps))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert logits.shape == (2, 3)
    assert any(value.grad is not None and value.grad.any() for value in built.parameters())


def test_what_cannot_be_adapted_is_one_line(opened_model: Callable[[str], Source]) -> None:
    pytest.importorskip("peft")
    with pytest.raises(SnowError, match="method lora cannot adapt hf:.*mobilenet"):
        METHODS["lora"].build(opened_model("mobilenet"), 3)


def test_class_and_register_tokens_are_no_part_of_maps(opened_model: Callable[[str], Source]) -> None:
    vit, dinov2, swin = opened_model("vit"), opened_model("dinov2"), opened_model("swin")
    assert (vit.classifier_inputs, vit.num_features) == (48, 96)  # the class token, and the mean beside it
    assert (dinov2.num_classes, dinov2.classifier_inputs) == (1, 96)  # reads both already
    assert swin.num_features == swin.classifier_inputs
    assert {vit.layouts[tap.name].others for tap in vit.taps} == {1}


def test_another_size_interpolates_position_embeddings(saved_model: Callable[..., Any], tmp_path: Path) -> None:
    folder, model = saved_model("vit")
    source = Source.open(f"hf:{folder}", image_size=96)
    features = source(draw_pictures(source))
    assert [tap.stride for tap in source.taps] == [16, 16]
    with torch.no_grad():
        expected = model(pixel_values=features.images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(features.logits, expected)
    Hub.create(tmp_path / "hub", source)
    assert torch.equal(Hub.open(tmp_path / "hub").source(draw_pictures(source)).logits, features.logits)


def test_shapes_are_known_without_weights(saved_model: Callable[..., Any]) -> None:
    folder, _ = saved_model("convnext")
    source = meta_source(f"hf:{folder}", 64)
    assert [(tap.channels, tap.stride) for tap in source.taps] == [(16, 4), (32, 8), (48, 16), (48, 16), (64, 32)]


def test_random_weights_and_those_of_a_file(
    saved_model: Callable[..., Any], opened_model: Callable[[str], Source], tmp_path: Path
) -> None:
    folder, _ = saved_model("vit")
    random = Source.open(f"hf:{folder}", pretrained=False)
    assert random.weights == "random"
    assert random.fingerprint != opened_model("vit").fingerprint
    seven = save_model("vit", tmp_path / "seven", num_labels=7)
    torch.save(seven.state_dict(), tmp_path / "seven.pth")
    source = Source.open(f"hf:{folder}", weights=tmp_path / "seven.pth")
    assert (source.weights, source.num_classes) == ("seven.pth", 7)
    assert source.fingerprint == Source.open(f"hf:{tmp_path / 'seven'}").fingerprint
    assert Hub.open(Hub.create(tmp_path / "hub", source).path).source.num_classes == 7
    assert (
        Source.open(f"hf:{folder}", weights=tmp_path / "seven" / "model.safetensors").fingerprint == source.fingerprint
    )
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SnowError, match="other.pth does not fit ViTForImageClassification"):
        Source.open(f"hf:{folder}", weights=tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "has no config.json"),
        ({}, "names no model_type"),
        ({"architecture": "resnet50"}, "is a model of timm: name it resnet50"),
        ({"model_type": "timm_wrapper", "architecture": "resnet50"}, "is a model of timm: name it resnet50"),
        ({"model_type": "magic"}, "'magic', which transformers"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is BertForMaskedLM: a source is an image"),
        ({"model_type": "detr"}, "is a model of type detr: a source is an image"),
        ({"model_type": "yolos"}, "is a model of type yolos: a source is an image"),
        ({"model_type": "imagegpt"}, "is a model of type imagegpt, which reads something else"),
        ({"model_type": "perceiver"}, "is a model of type perceiver, which reads something else"),
        ({"model_type": "vit", "num_channels": 5}, "reads pictures of 5 channels: a source reads RGB"),
        ({"model_type": "clip", "vision_config": {"num_channels": 1}}, "reads pictures of 1 channels"),
        ({"model_type": "vit", "image_size": [64, 96]}, "are not square: name an image size"),
        ({"model_type": "vit", "quantization_config": {"bits": 4}}, "is quantised"),
        ({"model_type": "vit"}, "has no weights: it should have model.safetensors"),
    ],
)
def test_what_is_no_source_is_one_line(config: dict[str, Any] | None, told: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir() if config is None else write_config(folder, config)
    with pytest.raises(SnowError) as caught:
        Source.open(f"hf:{folder}")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "vit", "hidden_size": "wide"}, "cannot be built: "),
        ({"model_type": "vit", "hidden_act": "magic"}, "cannot be built: "),
        ({"model_type": "siglip2", "vision_config": {**TOKENS, "patch_size": 16}}, "cannot take pictures of 32 pixels"),
        ({"model_type": "swin", "embed_dim": 24, "image_size": 32}, "cannot take pictures of 32 pixels"),
    ],
)
def test_what_does_not_run_is_one_line(config: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", config)
    with pytest.raises(SnowError) as caught:
        Source.open(f"hf:{folder}", pretrained=False, image_size=32)
    assert told in str(caught.value)


def test_damaged_and_foreign_weights_are_one_line(saved_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_model("vit")[0], tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(SnowError, match=r"does not fit ViTForImageClassification: \d+ tensors missing"):
        Source.open(f"hf:{folder}")
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(SnowError, match="of another shape"):
        Source.open(f"hf:{folder}")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SnowError, match="cannot be built"):
        Source.open(f"hf:{folder}")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SnowError, match=r"need transformers: pip install 'snow-cnn\[transformers\]'"):
        Source.open("hf:google/vit-base-patch16-224")


def test_blue_first_is_read_as_red_first(saved_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_model("resnet")[0], tmp_path / "resnet"))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "do_flip_channel_order": True}))
    source = Source.open(f"hf:{folder}")
    features = source(draw_pictures(source))
    with torch.no_grad():
        torch.testing.assert_close(features.logits, saved_model("resnet")[1](features.images.flip(1)).logits)


def test_transformers_is_imported_for_such_sources_only() -> None:
    assert not {name for name in vars(transformers_model) if name == "transformers"}
