"""Tasks whose weights are saved in few bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.coded_tensors import CODES, SCALE, CodedTensors
from snow.hub.task_files import CLASS_FORMAT, FORMAT
from snow.methods import METHODS
from snow.methods.low_bit import round_weights
from snow.source import Source

CLASSES = ("a", "b", "c")
NAMES = ("ft", "partial", "mp", "snow", "fo")


@pytest.fixture
def source(resnet: Source) -> Source:
    return resnet


def coded(source: Source, name: str, bits: int) -> Artifact:
    """A task whose weights are off from where they started."""
    torch.manual_seed(0)
    method = METHODS[name].build(source, len(CLASSES)).export_form()
    with torch.no_grad():
        for value in method.parameters():
            value.add_(1e-3 * torch.randn_like(value))
    round_weights(method, source, bits)
    return Artifact(name, CLASSES, method, source.description(), coded=CodedTensors.of(method, source, bits))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_task_answers_as_before_it_was_saved(
    name: str, bits: int, source: Source, tmp_path: Path, draw: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    task = coded(source, name, bits)
    loaded = Artifact.load(task.save(tmp_path / name), source)
    assert loaded.coded is not None
    assert loaded.coded.bits == bits
    features = source(draw(2, 3)[0], task.method.taps)
    torch.testing.assert_close(loaded.method(features), task.method(features), rtol=1e-4, atol=1e-5)


def test_a_copy_takes_a_seventh_of_its_bytes(make_source: Callable[..., Source], tmp_path: Path) -> None:
    source = make_source("resnet18")
    task = coded(source, "ft", 4)
    whole = Artifact("ft", CLASSES, task.method, source.description())
    assert task.size == sum(
        value.nbytes for value in load_file(task.save(tmp_path / "ft") / "model.safetensors").values()
    )
    assert 7 * task.size < whole.size
    assert task.learned_parameters == whole.learned_parameters


def test_a_task_in_few_bits_has_a_newer_format(source: Source, tmp_path: Path) -> None:
    task = coded(source, "ft", 4)
    config = json.loads((task.save(tmp_path / "coded") / "config.json").read_text("utf-8"))
    assert (config["format"], config["bits"]) == (FORMAT, 4)
    whole = Artifact("ft", CLASSES, task.method, source.description()).save(tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text("utf-8"))
    assert config["format"] == CLASS_FORMAT
    assert "bits" not in config


def test_saved_again_it_is_the_same_file(source: Source, tmp_path: Path) -> None:
    first = coded(source, "partial", 4).save(tmp_path / "first")
    again = Artifact.load(first, source).save(tmp_path / "again")
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_another_method_is_saved_whole(source: Source, tmp_path: Path) -> None:
    """Codes are those of one method: `dataclasses.replace` may give an artefact another one."""
    task = coded(source, "fo", 8)
    other = METHODS["fo"].build(source, len(CLASSES)).export_form()
    replaced = Artifact("fo", CLASSES, other, source.description(), coded=task.coded)
    saved = load_file(replaced.save(tmp_path / "fo") / "model.safetensors")
    assert saved.keys() == other.state_dict().keys()


def test_a_hub_keeps_and_serves_it(source: Source, tmp_path: Path, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    hub = Hub.create(tmp_path / "hub", source)
    task = coded(source, "partial", 4)
    hub.add(task)
    opened = Hub.open(tmp_path / "hub")
    assert {name: verdict.differences for name, verdict in opened.verify().items()} == {"partial": ()}
    features = source(draw(2, 3)[0], task.method.taps)
    torch.testing.assert_close(opened.task("partial").method(features), task.method(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change", ["without scale", "wide codes", "unknown tensor", "unknown scale", "type of scale", "not said", "NaN"]
)
def test_what_does_not_fit_is_refused(change: str, source: Source, tmp_path: Path) -> None:
    folder = coded(source, "partial", 4).save(tmp_path / "task")
    tensors = load_file(folder / "model.safetensors")
    name = "cnn.layer4.0.conv2.weight"
    codes, scale = tensors[name + CODES], tensors[name + SCALE]
    if change == "without scale":
        del tensors[name + SCALE]
    elif change == "wide codes":
        tensors[name + CODES] = torch.cat([codes, codes, codes], 1)
    elif change == "unknown tensor":
        tensors |= {f"other{CODES}": codes.clone(), f"other{SCALE}": scale.clone()}
    elif change == "unknown scale":
        tensors[f"other{SCALE}"] = scale.clone()
    elif change == "type of scale":
        tensors[name + SCALE] = scale.half()
    elif change == "NaN":
        tensors[name + SCALE] = scale * torch.nan
    else:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        del config["bits"]
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SnowError, match="is damaged"):
        Artifact.load(folder, source)
