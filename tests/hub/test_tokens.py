"""A hub whose source gives tokens: every engine and exported files answer as the eager engine does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.hub import Artifact, Hub
from snow.hub.export import export
from snow.inference import ENGINES
from snow.inference.compiled.library import find_compiler
from snow.methods import METHODS
from snow.source import Source

CLASSES = ("a", "b", "c")
EXACT = [name for name, engine in ENGINES.items() if engine.exact]


@pytest.fixture(scope="module", params=["test_vit", "test_mambaout"])
def hub(
    request: pytest.FixtureRequest, make_source: Callable[..., Source], tmp_path_factory: pytest.TempPathFactory
) -> Hub:
    """With a delta that learned nothing of value, a start on moments, and a linear probe."""
    source = make_source(request.param)
    made = Hub.create(tmp_path_factory.mktemp("tokens") / "hub", source)
    for name, method, config in (("delta", "snow", {"start": "zero"}), ("fo", "fo", {}), ("h2t", "head2toe", {})):
        torch.manual_seed(0)
        learned = METHODS[method].build(source, len(CLASSES), config).export_form()
        with torch.no_grad():
            for value in learned.parameters():
                value.add_(0.1 * torch.randn_like(value))
        made.add(Artifact(name, CLASSES, learned, source.description()))
    return made


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(3, seed=4)[0]


def alike(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("engine", EXACT)
def test_engines_answer_alike(engine: str, hub: Hub, images: Tensor) -> None:
    if engine == "compiled" and find_compiler() is None:
        pytest.skip("there is no compiler")
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    expected, found = (
        Hub.open(hub.path, engine="eager").logits(images),
        Hub.open(hub.path, engine=engine).logits(images),
    )
    assert all(alike(found[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_eight_bits_are_close(hub: Hub, images: Tensor) -> None:
    """Final features, without their mean: what all pictures share says nothing."""
    pytest.importorskip("onnxruntime")
    expected = Hub.open(hub.path).source(images).final
    found = Hub.open(hub.path, engine="int8").engine.prepared_source()(images).final
    centred = [(value - value.mean(0)).flatten() for value in (expected, found)]
    assert torch.nn.functional.cosine_similarity(*centred, dim=0) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_exported_files_are_checked_against_the_hub(suffix: str, hub: Hub, tmp_path: Path) -> None:
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
    export(hub, tmp_path / f"hub.{suffix}")
    assert (tmp_path / f"hub.{suffix}").stat().st_size > 10_000


def test_it_is_the_same_when_it_is_opened_again(hub: Hub, images: Tensor) -> None:
    again = Hub.open(hub.path)
    assert again.source.fingerprint == hub.source.fingerprint
    assert again.source.taps == hub.source.taps
    expected = hub.logits(images)
    assert all(value.equal(expected[name]) for name, value in again.logits(images).items())
    assert {verdict.differences for verdict in again.verify().values()} == {()}
