"""No tensor is on the wrong device, held without a GPU: torch's fake tensors are on "cuda", and refuse to be mixed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from snow.errors import SnowError
from snow.inference import ENGINES, AutoEngine, StackedEngine
from snow.inference.features import moments_read, observe_channels
from snow.inference.fused import FusedEngine
from snow.methods import METHODS, Method, installed_methods
from snow.source import Source
from snow.subscribe import SUBSCRIPTIONS

CLASSES = 3
CPU_ONLY = ("onnx", "int8")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in installed_methods()),
    *(("snow", {"subscription": name}) for name in SUBSCRIPTIONS if name != "channel_pooling"),
    ("snow", {"preset": "paper"}),
    ("snow", {"rank": 1}),
]


def on_cuda(module: nn.Module, mode: FakeTensorMode) -> Any:
    """Copy a module with all its registered tensors on the device that is not there."""
    memo: dict[int, Any] = {}
    with mode:
        for value in module.parameters():
            memo[id(value)] = nn.Parameter(mode.from_tensor(value).detach().to("cuda"), value.requires_grad)
        for value in module.buffers():
            memo[id(value)] = mode.from_tensor(value).to("cuda")
        for owner, name in getattr(module, "_frozen", ()):  # a tuned copy moves these itself
            memo[id(getattr(owner, name))] = mode.from_tensor(getattr(owner, name)).to("cuda")
    return copy.deepcopy(module, memo)


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(4)[0]


@lru_cache(1)
def build_all(source: Source) -> tuple[list[Method], FakeTensorMode, Any]:
    """Build every method, and copy the source, for all tests of it."""
    torch.manual_seed(0)
    mode = FakeTensorMode()
    return [METHODS[name].build(source, CLASSES, config) for name, config in VARIANTS], mode, on_cuda(source, mode)


@lru_cache(1)
def export_all(source: Source) -> tuple[list[Method], list[Any]]:
    """Bring every method into the form that is served, and copy it, for all engines."""
    built, mode, _ = build_all(source)
    methods = [method.export_form() for method in built]
    methods += [methods[0].__class__.rebuild(source, CLASSES, methods[0].config)]  # two tasks for a stack
    return methods, [on_cuda(method, mode) for method in methods]


def test_the_forward_pass_of_a_training_step_stays_on_the_device(source: Source, images: Tensor) -> None:
    built, mode, fake_source = build_all(source)
    methods = [on_cuda(method, mode).train() for method in built]
    with mode:
        for method in methods:
            method.set_progress(0.1)
        observed = observe_channels(fake_source, methods, mode.from_tensor(images).to("cuda"))
        labels = (mode.from_tensor(torch.arange(len(images))) % CLASSES).to("cuda")
        for method, features in zip(methods, observed, strict=True):
            loss = functional.cross_entropy(method(features), labels)
            penalty = method.penalty()
            assert (loss if penalty is None else loss + penalty).device.type == "cuda", method.name
            assert loss.requires_grad, method.name


@pytest.mark.parametrize("engine", [*(name for name in ENGINES if name not in CPU_ONLY), "auto"])
@pytest.mark.parametrize(
    "source",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("test_resnet", "test_convnext")] + ["test_efficientnet"],
    indirect=True,
)
def test_an_engine_stays_on_the_device(
    engine: str, source: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = AutoEngine if engine == "auto" else ENGINES[engine]
    _, mode, fake_source = build_all(source)
    methods, fakes = export_all(source)
    taps = frozenset[str]().union(*(one.taps for one in methods))
    real, running = kind(source), kind(fake_source)
    if isinstance(real, FusedEngine) and isinstance(running, FusedEngine):
        # what can be folded is found by comparing values, which fake tensors do not have
        whole = source(images[:1], taps)
        folded = {id(fake): on_cuda(real.folded(one, whole), mode) for one, fake in zip(methods, fakes, strict=True)}
        monkeypatch.setattr(FusedEngine, "folded", lambda _self, method, _features: folded[id(method)])
        monkeypatch.setattr(FusedEngine, "agrees", lambda *_: True)
        running._prepared = on_cuda(real.prepared_source(), mode)
    with mode, torch.no_grad():
        features = running.prepared_source()(mode.from_tensor(images).to("cuda"), taps)
        moments = running.moments(features, moments_read(fakes, running.shares_moments))
        answers = running.answers(fakes, replace(features, moments=moments))
    for method, answer in zip(methods, answers, strict=True):
        assert isinstance(answer, Tensor), (method.name, answer)
        assert answer.device.type == "cuda", method.name
        assert answer.shape == (len(images), CLASSES)
    if isinstance(running, StackedEngine):
        assert running._homes[fakes[0]] is not None
        assert running._homes[fakes[-1]] is not None


@pytest.mark.parametrize("engine", CPU_ONLY)
def test_an_engine_of_the_cpu_refuses_another_device(engine: str, resnet: Source) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(SnowError, match="on the CPU"):
        ENGINES[engine](on_cuda(resnet, FakeTensorMode())).prepared_source()


def test_mixed_devices_are_noticed(resnet: Source, images: Tensor) -> None:
    mode = FakeTensorMode()
    fake = on_cuda(resnet, mode)
    with mode, pytest.raises(RuntimeError, match="device"):
        fake(mode.from_tensor(images))
