"""A source that ONNX Runtime runs: the same features, in 8 bits nearly, and no more work than is asked for."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.inference import onnx_backend as runtime
from snow.inference.onnx_backend import onnx_source, photographs
from snow.source import Source
from snow.source.network import HookedNetwork


@pytest.fixture(scope="module")
def pictures(resnet: Source) -> Tensor:
    return photographs(resnet.preprocessing)[::11]


@pytest.fixture(scope="module")
def bytewise(resnet: Source) -> Source:
    return onnx_source(resnet, int8=True)


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_bytes_are_near(resnet: Source, bytewise: Source, pictures: Tensor) -> None:
    exact, found = resnet(pictures), bytewise(pictures)
    for name, value in exact.maps.items():
        assert 0 < off(found.maps[name], value) < 0.1
    assert 0 < off(found.final, exact.final) < 0.1
    assert off(found.logits, exact.logits) < 0.2


def test_a_pass_gives_what_is_asked_for(bytewise: Source, pictures: Tensor) -> None:
    tap = bytewise.taps[0].name
    everything = bytewise(pictures)
    some = bytewise(pictures, [tap], final=False)
    assert list(some.maps) == [tap]
    assert torch.equal(some.maps[tap], everything.maps[tap])
    assert some.final.shape == some.logits.shape == (len(pictures), 0)
    assert bytewise(pictures, [], final=False).maps == {}


def test_the_source_itself_stays_as_it_is(resnet: Source, bytewise: Source, pictures: Tensor) -> None:
    before = resnet(pictures)
    onnx_source(resnet)
    after = resnet(pictures)
    assert isinstance(resnet.network, HookedNetwork)
    assert torch.equal(before.logits, after.logits)
    assert all(torch.equal(before.maps[name], after.maps[name]) for name in before.maps)
    assert copy.deepcopy(bytewise).network is bytewise.network


def test_a_gpu_is_refused(resnet: Source) -> None:
    with pytest.raises(SnowError, match="ONNX Runtime runs a source on the CPU"):
        onnx_source(copy.deepcopy(resnet).to("meta"))


def test_a_missing_package_is_one_line(resnet: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(SnowError, match="needs onnx: pip install 'snow-cnn\\[onnx\\]'"):
        onnx_source(resnet)


def test_nothing_is_left_on_the_disk(resnet: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    onnx_source(resnet)
    assert not list(tmp_path.iterdir())
