"""Every engine answers as the eager one does, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.inference import ENGINES, SOURCE_HEAD, Predictor, open_engine
from snow.inference.compiled.library import find_compiler
from snow.methods import METHODS, Method, installed_methods
from snow.source import Source
from snow.subscribe import SUBSCRIPTIONS

TOLERANCE = 1e-4
"""Of logits in 32 bits, beside the largest of them."""

EXACT = [name for name, engine in ENGINES.items() if engine.exact]
CLASSES = ("a", "b", "c")
TINY = ("test_resnet", "test_efficientnet", "test_convnext")
WAYS = [
    *((name, {}) for name in installed_methods()),
    *(("snow", {"subscription": name}) for name in SUBSCRIPTIONS),
    ("snow", {"pooling": {"slots": "index", "norm": True, "relu": True}}),
    ("mp", {"patch": "both", "statistics": "source"}),
]

CELLS = [
    pytest.param(engine, way, TINY[turn], id=f"{TINY[turn]}-{way[0]}-{way[1]}-{engine}")
    for row, way in enumerate(WAYS)
    for column, engine in enumerate(EXACT)
    for turn in (range(len(TINY)) if way == ("snow", {}) else [(row + column) % len(TINY)])
]
"""Every way with every engine on the CNNs in turn, so that each of them also meets every CNN; SNOW on all of them."""


def scattered(source: Source, name: str = "snow", config: dict | None = None, seed: int = 0) -> Method:
    """A method of which every weight matters, some scales of channel pooling being negative."""
    torch.manual_seed(seed)
    method = METHODS[name].build(source, len(CLASSES), config).export_form()
    with torch.no_grad():
        for value in [*method.parameters(), *method.buffers()]:
            if value.is_floating_point():
                value.mul_(1 + 0.2 * torch.randn_like(value)).add_(0.05 * torch.rand_like(value))
        for label, value in method.named_parameters():
            if label.endswith(".scale"):
                value.mul_(torch.randn_like(value).sign())
    return method


@cache
def opened(engine: str, source: Source) -> Predictor:
    """One for all tests: some take seconds to get ready."""
    if engine == "compiled" and find_compiler() is None:
        pytest.skip("there is no compiler")
    predictor = Predictor(open_engine(engine, source))
    if engine == "onnx" and "test_resnet" not in source.name:  # or a graph is exported anew for each further map
        taps = frozenset[str]().union(*(scattered(source, name, config).taps for name, config in WAYS))
        predictor.engine.prepared_source().register_taps(sorted(taps))
    return predictor


@cache
def neighbours(source: Source) -> dict[str, Method | None]:
    """A task of every method: the same ones for all tests, so that an engine prepares them once."""
    return {name: scattered(source, name, seed=1) for name in installed_methods()}


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


def rounded(one: Tensor, other: Tensor) -> bool:
    """Whether two answers differ by no more than a few roundings."""
    return bool((one - other).abs().max() <= 1e-5 * other.abs().max())


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(5, seed=4)[0]


@pytest.mark.parametrize(("engine", "way", "source"), CELLS, indirect=["source"])
def test_it_answers_as_the_method_does(engine: str, way: tuple[str, dict], source: Source, images: Tensor) -> None:
    method = scattered(source, *way)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        expected = method(source(images, method.taps))
    for _ in range(2):
        found = opened(engine, source).logits(images, {"t": method})
        assert close(found["t"], expected)
        assert torch.equal(found["t"].argmax(1), expected.argmax(1))
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize(
    ("name", "tap"), [("test_resnet", "layer2.0.conv2"), ("test_efficientnet", "blocks.4.0.conv_dw")]
)
def test_it_may_read_what_a_convolution_gave_that_is_folded(
    engine: str, name: str, tap: str, make_source: Callable[..., Source], images: Tensor
) -> None:
    """A task was trained with a tap that the source, opened anew, does not offer by itself."""
    chosen, source = make_source(name, taps=[tap]), make_source(name)
    assert tap not in {known.name for known in source.taps}
    method = scattered(chosen)
    predictor = Predictor(open_engine(engine, source))
    before = predictor.logits(images, {SOURCE_HEAD: None})[SOURCE_HEAD]
    answers = predictor.logits(images, {"t": method, SOURCE_HEAD: None})
    with torch.no_grad():
        assert close(answers["t"], method(chosen(images, [tap])))
    assert close(answers[SOURCE_HEAD], before)


@pytest.mark.parametrize("engine", EXACT)
def test_it_answers_for_the_source_s_own_head(engine: str, source: Source, images: Tensor) -> None:
    expected = source(images).logits
    found = opened(engine, source).logits(images, {SOURCE_HEAD: None})[SOURCE_HEAD]
    assert close(found, expected)
    assert torch.equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", installed_methods())
def test_other_tasks_change_no_answer_by_a_bit(engine: str, name: str, resnet: Source, images: Tensor) -> None:
    method, running = scattered(resnet, name), opened(engine, resnet)
    alone = running.logits(images, {"t": method})["t"]
    beside = running.logits(images, {**neighbours(resnet), "t": method})["t"]
    again = running.logits(images, {"t": method})["t"]
    for answer in (beside, again):  # an engine that is not isolated may by then run tasks another way
        assert torch.equal(answer, alone) if running.engine.isolated else rounded(answer, alone)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_opened_anew_answers_alike_bit_by_bit(engine: str, resnet: Source, images: Tensor) -> None:
    asked = {"t": scattered(resnet), SOURCE_HEAD: None}
    anew = Predictor(open_engine(engine, resnet))
    before, after = (predictor.logits(images, asked) for predictor in (opened(engine, resnet), anew))
    assert all(torch.equal(before[name], after[name]) for name in asked)


@pytest.mark.parametrize("engine", EXACT)
def test_it_forgets_methods_that_are_gone(engine: str, resnet: Source, images: Tensor) -> None:
    """A task that takes the place of another is never answered by what was prepared for the other."""
    running = opened(engine, resnet)
    for seed in range(4):
        method = scattered(resnet, "fo", seed=seed)
        with torch.no_grad():
            expected = method(resnet(images))
        assert close(running.logits(images, {"t": method})["t"], expected)
        del method


def test_a_large_batch_is_passed_in_parts(resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    seen: list[int] = []
    running = opened("eager", resnet)
    with resnet.cnn.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0]))):
        answers = running.logits(draw(40)[0], {"t": scattered(resnet)})
    assert seen == [32, 8]
    assert answers["t"].shape == (40, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_of_another_size_are_refused(engine: str, resnet: Source) -> None:
    with pytest.raises(SnowError, match=r"takes pictures of shape \(3, 64, 64\), not \(3, 64, 65\)"):
        opened(engine, resnet).logits(torch.zeros(1, 3, 64, 65, dtype=torch.uint8), {SOURCE_HEAD: None})


def test_an_unknown_engine_is_one_line(resnet: Source, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="no engine 'warp': there are auto, eager, "):
        Hub(tmp_path, resnet, engine="warp")
    assert open_engine("auto", resnet).name == "auto"


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_ask_for_different_tasks(engine: str, resnet: Source, images: Tensor, tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", resnet)
    for seed, name in enumerate(("x", "y")):
        hub.add(Artifact(name, CLASSES, scattered(resnet, seed=seed), resnet.description()))
    hub = Hub(hub.path, resnet, engine)
    whole = hub.predict(images)
    assert [list(answers) for answers in whole] == [["x", "y"]] * 5
    wanted = [["y"], [], ["x", "y"], [SOURCE_HEAD], ["x"]]
    mixed = hub.predict(images, wanted)
    assert [list(answers) for answers in mixed] == wanted
    for all_answers, answers in zip(whole, mixed, strict=True):
        for name in answers.keys() - {SOURCE_HEAD}:
            assert answers[name].classes == all_answers[name].classes
            assert answers[name].probabilities == pytest.approx(all_answers[name].probabilities, abs=1e-5)
    with pytest.raises(SnowError, match="5 pictures want 5 lists of tasks"):
        hub.predict(images, [["x"]])
