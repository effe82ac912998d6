"""Devices by name, on a machine with other ones than this."""

from __future__ import annotations

import pytest
import torch

from snow.errors import SnowError
from snow.process.devices import find_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return request.param


@pytest.mark.parametrize("gpus", [0, 2], indirect=True)
def test_auto_is_the_fastest_device_that_is_there(gpus: int) -> None:
    assert find_device("auto").type == ("cuda" if gpus else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_one_of_two_gpus(gpus: int) -> None:
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SnowError, match=r"no device cuda:2, .*: there is cpu, cuda:0, cuda:1$"):
        find_device("cuda:2")


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_one_line(gpus: int, name: str) -> None:
    with pytest.raises(SnowError, match=rf"this machine has no device {name}, .*: there is cpu$"):
        find_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:one", "cuda:-1", "", "meta", "0"])
def test_what_names_no_device(name: str) -> None:
    with pytest.raises(SnowError, match=r"one of auto, cpu, cuda, cuda:1 .*, mps, not"):
        find_device(name)
