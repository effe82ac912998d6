"""A hub as one file: what others run answers as the hub does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub import export as module
from snow.hub.export import export
from snow.inference import SOURCE_HEAD
from snow.methods import METHODS
from snow.source import Source

CLASSES = {"colour.1": ("red", "green"), "shape": ("round", "square", "flat")}


def hub_of(source: Source, path: Path) -> Hub:
    hub = Hub(Hub.create(path, source).path, source, engine="eager")
    for (name, classes), method in zip(CLASSES.items(), ("snow", "fo"), strict=True):
        learned = METHODS[method].build(source, len(classes)).export_form()
        with torch.no_grad():
            for value in learned.parameters():
                value.add_(0.1 * torch.randn_like(value))
        hub.add(Artifact(name, classes, learned, source.description()))
    return hub


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def alike(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() < 1e-4 * expected.abs().max())


@pytest.mark.parametrize(
    "source",
    ["test_resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("test_efficientnet", "test_convnext"))],
    indirect=True,
)
def test_onnxruntime_alone_answers_as_the_hub(source: Source, images: Tensor, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    hub, path = hub_of(source, tmp_path / "hub"), tmp_path / "hub.onnx"
    export(hub, path, [*CLASSES, SOURCE_HEAD])
    session = runtime.InferenceSession(str(path))
    assert [one.name for one in session.get_inputs()] == ["images"]
    names = [one.name for one in session.get_outputs()]
    assert names == [*CLASSES, SOURCE_HEAD]
    expected = hub.logits(images, names)
    for name, answer in zip(names, session.run(names, {"images": images.numpy()}), strict=True):
        assert alike(torch.from_numpy(answer), expected[name])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["snow.classes"])["shape"] == list(CLASSES["shape"])
    assert json.loads(about["snow.preprocessing"]) == source.preprocessing.to_dict()


@pytest.mark.slow
def test_torch_alone_answers_as_the_hub(source: Source, images: Tensor, tmp_path: Path) -> None:
    hub, path = hub_of(source, tmp_path / "hub"), tmp_path / "hub.pt2"
    export(hub, path)
    about = {"snow.classes": ""}
    found = torch.export.load(path, extra_files=about).module()(images)
    assert list(found) == list(CLASSES)
    assert all(alike(found[name], answer) for name, answer in hub.logits(images).items())
    assert json.loads(about["snow.classes"])["shape"] == list(CLASSES["shape"])


def test_a_map_in_front_of_a_folded_norm_stays_as_it_was(
    make_source: Callable[..., Source], images: Tensor, tmp_path: Path
) -> None:
    hub = hub_of(make_source(taps=["layer2.0.conv2"]), tmp_path / "hub")
    exported = module.ExportedHub(Hub.open(hub.path))
    with torch.no_grad():
        found = dict(zip(exported.names, exported(images), strict=True))
    assert all(alike(found[name], answer) for name, answer in hub.logits(images).items())


def test_a_file_that_would_answer_otherwise_is_not_kept(
    resnet: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, path = hub_of(resnet, tmp_path / "hub"), tmp_path / "hub.pt2"
    path.write_text("what was there before")
    monkeypatch.setattr(module, "_export_program", lambda *_: (b"", lambda images: hub.logits(images + 1)))
    with pytest.raises(SnowError, match="not written: logits of task colour.1 differ by"):
        export(hub, path)
    assert path.read_text() == "what was there before"
    assert [one.name for one in tmp_path.glob(".*")] == []


def test_what_cannot_be_exported_is_one_line(resnet: Source, tmp_path: Path) -> None:
    empty = Hub.create(tmp_path / "empty", resnet)
    with pytest.raises(SnowError, match="has no task to export"):
        export(empty, tmp_path / "x.onnx")
    hub = hub_of(resnet, tmp_path / "hub")
    with pytest.raises(SnowError, match=r"ends in neither \.onnx nor \.pt2"):
        export(hub, tmp_path / "x.zip")
    with pytest.raises(SnowError, match="has no task 'none'"):
        export(hub, tmp_path / "x.pt2", ["none"])
    with pytest.raises(SnowError, match="cannot be written"):
        export(hub, tmp_path / "nowhere" / "x.pt2")
