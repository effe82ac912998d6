"""Sources of Hugging Face transformers: built from a folder or a repository, kept in a hub, refused in one line."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from source.tiny_transformers import MODELS, TOKENS, save_model, write_config
from torch import Tensor

import snow
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.card import task_card
from snow.hub.task_files import read_config
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS
from snow.source import Source, meta_source, transformers_model
from snow.source.fingerprint import source_fingerprint
from snow.source.licence import origin_of
from snow.source.model_folder import ModelFolder

transformers = pytest.importorskip("transformers")

OWN_SIZES = {"dinov2": 56}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def saved(place: Path) -> Callable[[str], tuple[Path, torch.nn.Module]]:
    """`saved(name)`: the folder of a model, and the model itself."""
    return cache(lambda name: (place / name, save_model(name, place / name)))


@pytest.fixture(scope="module")
def opened(saved: Callable[[str], tuple[Path, torch.nn.Module]]) -> Callable[[str], Source]:
    return cache(lambda name: Source.open(f"hf:{saved(name)[0]}", image_size=OWN_SIZES.get(name)))


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def pictures(source: Source, count: int = 2) -> Tensor:
    size = source.preprocessing.image_size
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_it_gives_what_the_model_gives(name: str, opened: Callable[[str], Source], saved: Callable[..., Any]) -> None:
    source, (_, model) = opened(name), saved(name)
    features = source(pictures(source))
    with torch.no_grad():
        output = model(pixel_values=features.images)
    if "logits" in output:
        torch.testing.assert_close(features.logits, output.logits)
    else:
        assert not features.logits.any()  # no classes: a head of zeros
        torch.testing.assert_close(features.final[:, :48], output.pooler_output)


def test_taps_are_maps_that_lie_as_the_picture_does(name: str, opened: Callable[[str], Source]) -> None:
    source = opened(name)
    features = source(pictures(source))
    assert len(source.taps) >= 2
    assert source.gives_tokens == (name in ("vit", "dinov2", "swin"))
    size, first = source.preprocessing.image_size, source.taps[0].name
    for tap in source.taps:
        assert features.maps[tap.name].shape == (2, tap.channels, size // tap.stride, size // tap.stride)
    picture = pictures(source, 1).float() / 255
    changed = picture.clone()
    changed[:, :, : size // 2, size // 2 :] = changed[:, :, : size // 2, size // 2 :].flip(-1)
    change = (source(changed, [first]).maps[first] - source(picture, [first]).maps[first]).abs().mean((0, 1))
    assert torch.nn.functional.adaptive_avg_pool2d(change[None, None], 2).flatten().argmax() == 1


def test_a_folded_source_gives_the_same(name: str, opened: Callable[[str], Source]) -> None:
    source = opened(name)
    expected, folded = source(pictures(source)), fuse_for_inference(source)(pictures(source))
    for value, other in zip(
        (*expected.maps.values(), expected.final), (*folded.maps.values(), folded.final), strict=True
    ):
        assert (other - value).abs().max() <= 1e-4 * value.abs().max()


@pytest.mark.parametrize("method", ["snow", "fo", "fe", "ft", "lora", "head2toe", "lf"])
@pytest.mark.parametrize("name", ["swin", "resnet"])
def test_methods_answer_and_have_gradients(name: str, method: str, opened: Callable[[str], Source]) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    source = opened(name)
    built = METHODS[method].build(source, 3)
    built.eval()
    built.calibrate([(source(pictures(source), built.taps), torch.tensor([0, 1]))])
    logits = built.train()(source(pictures(source), built.taps))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert logits.shape == (2, 3)
    assert any(value.grad is not None and value.grad.any() for value in built.parameters())


def test_what_cannot_be_adapted_is_one_line(opened: Callable[[str], Source]) -> None:
    pytest.importorskip("peft")
    with pytest.raises(SnowError, match="method lora cannot adapt hf:.*mobilenet"):
        METHODS["lora"].build(opened("mobilenet"), 3)


def test_class_and_register_tokens_are_no_part_of_maps(opened: Callable[[str], Source]) -> None:
    vit, dinov2, swin = opened("vit"), opened("dinov2"), opened("swin")
    assert (vit.classifier_inputs, vit.num_features) == (48, 96)  # the class token, and the mean beside it
    assert (dinov2.num_classes, dinov2.classifier_inputs) == (1, 96)  # reads both already
    assert swin.num_features == swin.classifier_inputs
    assert {vit.layouts[tap.name].others for tap in vit.taps} == {1}


def test_a_hub_keeps_all_of_it(
    name: str,
    opened: Callable[[str], Source],
    saved: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It opens without the folder and the network, and answers the same."""
    source = opened(name)
    hub = Hub.create(tmp_path / "hub", source)
    torch.manual_seed(0)
    method = METHODS["snow"].build(source, 3, {"start": "zero"}).export_form()
    hub.add(Artifact("one", ("a", "b", "c"), method, source.description()))
    expected = hub.logits(pictures(source))
    folder = saved(name)[0]
    folder.rename(tmp_path / "elsewhere")
    try:
        again = Hub.open(tmp_path / "hub")
        assert again.source.description() == source.description()
        assert again.source.taps == source.taps
        assert torch.equal(again.logits(pictures(source))["one"], expected["one"])
        assert Hub.create(tmp_path / "hub", again.source).names() == ["one"]
        moved = Source.open(f"hf:{tmp_path / 'elsewhere'}", image_size=OWN_SIZES.get(name))
        assert moved.fingerprint == source.fingerprint  # it does not matter where a model lies
    finally:
        (tmp_path / "elsewhere").rename(folder)
    described = json.loads((tmp_path / "hub" / "source.json").read_text())
    assert described["origin"] == {"licence": "mit", "model card": str(folder / "README.md")}
    assert "auto_map" not in described["transformers"]["config"]


def test_cards_name_the_licence_and_how_to_open_it(
    opened: Callable[[str], Source], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not tell where on this machine the model lies."""
    source = opened("vit")
    hub = Hub.create(tmp_path / "hub", source)
    hub.add(Artifact("one", ("a", "b"), METHODS["fo"].build(source, 2).export_form(), source.description()))
    again = Hub.open(hub.path)
    card = (again.save_pretrained(tmp_path / "shared") / "README.md").read_text("utf-8")
    assert "| licence | mit |" in card
    assert "pip install 'snow-cnn[transformers]'" in card
    assert Hub.open(tmp_path / "shared").source.fingerprint == source.fingerprint
    of_task = task_card(read_config(hub.folder("one")), {}, "owner/name")
    call = re.search(r"snow\.Source\.\w+\(.*\)(?=\))", of_task)
    assert call is not None
    assert "vit/README.md" in card
    assert str(place) not in card + of_task
    monkeypatch.chdir(place)
    assert eval(call[0], {"snow": snow}).fingerprint == source.fingerprint


def test_a_damaged_hub_is_one_line(opened: Callable[[str], Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", opened("vit"))
    text = (hub.path / "source.json").read_text()
    small = {"model_type": "vit", **TOKENS, "intermediate_size": 8, "image_size": 64}
    for junk in (None, 3, {}, {"config": 3}, {"config": {"model_type": "magic"}}, {"config": small}):
        described = {**json.loads(text), "transformers": junk}
        if isinstance(junk, dict):
            described["fingerprint"] = refingerprinted(hub.path, described)
        (hub.path / "source.json").write_text(json.dumps(described))
        with pytest.raises(SnowError) as caught:
            Hub.open(hub.path)
        assert "\n" not in str(caught.value)
    described = json.loads(text)
    described["preprocessing"]["mean"] = "grey"
    described["fingerprint"] = refingerprinted(hub.path, described)
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match="its preprocessing cannot be read"):
        Hub.open(hub.path)
    (hub.path / "source.json").write_text(text)
    (hub.path / "source.safetensors").unlink()
    with pytest.raises(SnowError, match=r"damaged: .*source.safetensors is missing"):
        Hub.open(hub.path)


def refingerprinted(hub: Path, described: dict[str, Any]) -> str:
    """The fingerprint that a description would have that somebody wrote on purpose."""
    tensors = load_file(hub / "source.safetensors")
    return source_fingerprint("", described["transformers"], described["preprocessing"], tensors)


def test_another_version_of_transformers_is_named(opened: Callable[[str], Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", opened("resnet"))
    described = json.loads((hub.path / "source.json").read_text())
    described["transformers"]["version"] = "4.99.0"
    (hub.path / "source.json").write_text(json.dumps(described))
    assert Hub.open(hub.path).source.transformers == described["transformers"]
    described["transformers"]["config"]["embedding_size"] = 8
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match="has changed: fingerprint"):
        Hub.open(hub.path)
    described["fingerprint"] = refingerprinted(hub.path, described)
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match=r"does not fit .*saved with transformers 4.99.0, not .* install that version"):
        Hub.open(hub.path)


def test_another_size_interpolates_position_embeddings(saved: Callable[..., Any], tmp_path: Path) -> None:
    folder, model = saved("vit")
    source = Source.open(f"hf:{folder}", image_size=96)
    features = source(pictures(source))
    assert [tap.stride for tap in source.taps] == [16, 16]
    with torch.no_grad():
        expected = model(pixel_values=features.images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(features.logits, expected)
    Hub.create(tmp_path / "hub", source)
    assert torch.equal(Hub.open(tmp_path / "hub").source(pictures(source)).logits, features.logits)


def test_shapes_are_known_without_weights(saved: Callable[..., Any]) -> None:
    folder, _ = saved("convnext")
    source = meta_source(f"hf:{folder}", 64)
    assert [(tap.channels, tap.stride) for tap in source.taps] == [(16, 4), (32, 8), (48, 16), (48, 16), (64, 32)]


def test_random_weights_and_those_of_a_file(
    saved: Callable[..., Any], opened: Callable[[str], Source], tmp_path: Path
) -> None:
    folder, _ = saved("vit")
    random = Source.open(f"hf:{folder}", pretrained=False)
    assert random.weights == "random"
    assert random.fingerprint != opened("vit").fingerprint
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


def test_a_repository_that_was_downloaded_needs_no_network(
    saved: Callable[..., Any], opened: Callable[[str], Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--tiny--vit"
    shutil.copytree(saved("vit")[0], repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    source = Source.open("hf:tiny/vit")
    assert (source.architecture, source.weights) == ("hf:tiny/vit", "pretrained")
    assert source.fingerprint == opened("vit").fingerprint
    origin = origin_of(source.cnn, source.architecture, source.weights)
    assert origin == {"licence": "mit", "model card": f"{constants.ENDPOINT}/tiny/vit", "revision": "0" * 40}


def test_a_revision_is_opened_and_kept(
    saved: Callable[..., Any], opened: Callable[[str], Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository, commits = tmp_path / "models--tiny--vit", {"main": "0" * 40, "v1": "1" * 40}
    (repository / "refs").mkdir(parents=True)
    for name, commit in commits.items():
        (repository / "refs" / name).write_text(commit)
    shutil.copytree(saved("vit")[0], repository / "snapshots" / commits["main"])
    save_model("vit", repository / "snapshots" / commits["v1"], num_labels=7)
    assert Source.open("hf:tiny/vit").fingerprint == opened("vit").fingerprint
    for revision in ("v1", commits["v1"]):
        source = Source.open(f"hf:tiny/vit@{revision}")
        assert (source.architecture, source.num_classes) == (f"hf:tiny/vit@{revision}", 7)
        hub = Hub.create(tmp_path / f"hub-{revision}", source)
        described = json.loads((hub.path / "source.json").read_text())
        assert described["origin"]["revision"] == commits["v1"]
        assert Hub.open(hub.path).source.architecture == source.architecture
    assert Source.open("hf:tiny/vit@main").fingerprint == opened("vit").fingerprint


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


def test_damaged_and_foreign_weights_are_one_line(saved: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("vit")[0], tmp_path / "vit"))
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


@pytest.mark.parametrize("spec", ["hf:/nowhere/at/all", "hf:", "hf:a/b/c", "hf:../vit", "hf:tiny/vit@"])
def test_an_unknown_folder_is_one_line(spec: str) -> None:
    with pytest.raises(SnowError, match="there is no folder"):
        Source.open(spec)


def test_an_unknown_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be reached is named; one that does not know the name says so."""
    import huggingface_hub
    from huggingface_hub import errors

    from snow.source import model_folder

    monkeypatch.setattr("snow.source.weights.socket.create_connection", _unreachable)
    with pytest.raises(SnowError, match="hf:nobody/nothing is no folder and not cached, and .* cannot be reached"):
        Source.open("hf:nobody/nothing")

    def unknown(*_args: object, revision: str | None, **_options: object) -> str:
        response = cast("Any", SimpleNamespace(headers={}, request=None))
        kind = errors.RepositoryNotFoundError if revision is None else errors.RevisionNotFoundError
        raise kind("404\nsee the documentation", response=response)

    monkeypatch.setattr(model_folder, "require_reachable", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unknown)
    with pytest.raises(SnowError, match="there is no folder 'nobody/nothing', and no such repository"):
        Source.open("hf:nobody/nothing")
    with pytest.raises(SnowError, match="hf:nobody/nothing has no revision 'v9'"):
        Source.open("hf:nobody/nothing@v9")


def _unreachable(*_args: object, **_options: object) -> None:
    raise OSError("no network")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SnowError, match=r"need transformers: pip install 'snow-cnn\[transformers\]'"):
        Source.open("hf:google/vit-base-patch16-224")


def test_blue_first_is_read_as_red_first(saved: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("resnet")[0], tmp_path / "resnet"))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "do_flip_channel_order": True}))
    source = Source.open(f"hf:{folder}")
    features = source(pictures(source))
    with torch.no_grad():
        torch.testing.assert_close(features.logits, saved("resnet")[1](features.images.flip(1)).logits)


@pytest.mark.parametrize("card", ["", "no front matter", "---\nlicense: [\n---\n", "---\n- a list\n---\n"])
def test_a_card_without_a_licence_says_nothing(card: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    (folder / "README.md").write_text(card)
    assert "licence" not in ModelFolder(str(folder)).origin()


def test_a_licence_with_a_name_of_its_own(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: dinov3-license\n---\n")
    assert ModelFolder(str(folder)).origin()["licence"] == "dinov3-license"


def test_code_of_a_repository_is_never_run(saved: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("vit")[0], tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit(99)")
    assert type(Source.open(f"hf:{folder}").cnn.model).__name__ == "ViTForImageClassification"


def test_transformers_is_imported_for_such_sources_only() -> None:
    assert not {name for name in vars(transformers_model) if name == "transformers"}
