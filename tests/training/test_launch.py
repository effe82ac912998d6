from __future__ import annotations

import pytest
import torch
from tiny import built, tiny_dataset, tiny_runtime, tiny_source

from snow.errors import SnowError
from snow.training.fit import fit
from snow.training.launch import computes_in_bf16, is_launched, open_fabric


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_is_for_hardware_that_has_it(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert computes_in_bf16("cpu") is supported
    assert not computes_in_bf16("mps")
    fabric = open_fabric("auto", "cpu")
    assert fabric.strategy.precision.precision == ("bf16-mixed" if supported else "32-true")


def test_one_process() -> None:
    assert not is_launched()
    fabric = open_fabric("32", "cpu")
    assert (fabric.world_size, fabric.global_rank, fabric.device.type) == (1, 0, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("precision", ["auto", "16"])
def test_a_device_that_is_not_there_is_one_line(precision: str) -> None:
    with pytest.raises(SnowError, match="cuda"):
        open_fabric(precision, "cuda")


def test_an_unknown_accelerator_is_one_line() -> None:
    with pytest.raises(SnowError, match="abacus"):
        open_fabric("32", "abacus")


def test_resuming_needs_a_path() -> None:
    with pytest.raises(SnowError, match="checkpoint"):
        fit(tiny_source(), {"colour": built()}, tiny_dataset(), runtime=tiny_runtime(), resume=True)


def test_8_bits_are_for_cpus() -> None:
    fabric = open_fabric("int8")
    assert fabric.device.type == "cpu"
    assert fabric.strategy.precision.precision == open_fabric("auto", "cpu").strategy.precision.precision
    with pytest.raises(SnowError, match="precision int8 is for CPUs"):
        open_fabric("int8", "mps")
