"""One pass for all tasks; a task that fails fails alone; few calls from a hub to the source's network."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import snow
from snow.hub import Artifact, Hub
from snow.inference import SOURCE_HEAD, ClassPrediction, EagerEngine, Failure, Predictor, Request, encode, group_by_task
from snow.inference.appearance import FIGURES, appearance
from snow.inference.familiarity import Familiarity
from snow.inference.reference import Traits
from snow.kinds import ClassKind
from snow.methods import METHODS, Method
from snow.source import Source

CLASSES = ("a", "b", "c")
MOST_CALLS = 5


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(3, seed=4)[0]


def trained(source: Source, seed: int = 0, name: str = "fo") -> Method:
    torch.manual_seed(seed)
    method = METHODS[name].build(source, len(CLASSES)).export_form()
    with torch.no_grad():
        for value in method.parameters():
            value.add_(torch.randn_like(value))
    return method


def request(method: Method | None) -> Request:
    return Request(method, ClassKind(CLASSES))


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_from_a_hub_to_the_source_s_network_there_are_few_calls(
    engine: str, resnet: Source, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub.create(tmp_path / "hub", resnet)
    hub.add(Artifact("a", CLASSES, trained(resnet, name="snow"), resnet.description()))
    hub = Hub(hub.path, resnet, engine)
    network = type(hub.engine.prepared_source().network)
    root, chains = str(Path(snow.__file__).parent), []
    run = network.run

    def traced(self: Any, *args: Any) -> Any:
        names = [frame.name for frame in traceback.extract_stack() if frame.filename.startswith(root)]
        chains.append([*names[names.index("predict") + 1 :], "run"])
        return run(self, *args)

    monkeypatch.setattr(network, "run", traced)
    hub.predict(images, ["a"])
    [chain] = chains
    assert len(chain) <= MOST_CALLS, chain


def test_traits_are_those_of_each_picture_and_come_only_if_asked_for(resnet: Source, images: Tensor) -> None:
    final = torch.rand(60, resnet.num_features)
    familiarity = Familiarity.fit(final, torch.arange(60) % 3, appearance=torch.rand(60, FIGURES))
    assert familiarity is not None
    early = replace(familiarity, reference=None)
    asked = {"now": Request(trained(resnet), ClassKind(CLASSES), familiarity)}
    asked["early"] = asked["now"]._replace(familiarity=early)
    predictor, rows = Predictor(EagerEngine(resnet)), [asked, {"early": asked["early"]}, asked]
    answers = predictor.run(images, rows, with_traits=True)
    for picture in (0, 2):
        entry = answers[picture]["now"]
        assert isinstance(entry, ClassPrediction)
        assert isinstance(entry.traits, Traits)
        assert entry.traits.reference is familiarity.reference
        torch.testing.assert_close(entry.traits.appearance, appearance(images[[picture]])[0])
        assert entry.known == answers[picture]["early"].known  # ty: ignore[unresolved-attribute]
        assert "traits" not in entry.to_dict()
    assert answers[1]["early"].traits is None  # ty: ignore[unresolved-attribute]
    assert predictor.run(images, rows)[0]["now"].traits is None  # ty: ignore[unresolved-attribute]


def test_tasks_that_fail_take_no_other_with_them(
    resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raising, endless, sound = trained(resnet), trained(resnet), trained(resnet, 1)
    monkeypatch.setattr(raising, "forward", lambda _features: 1 / 0)
    for value in endless.parameters():
        value.data.fill_(float("nan"))
    broken = Failure("broken", "its file is damaged")
    asked = {"raising": request(raising), "endless": request(endless), "broken": broken, "sound": request(sound)}
    predictor = Predictor(EagerEngine(resnet))
    expected = predictor.logits(images, {"sound": sound})["sound"].argmax(1)
    for picture, answers in enumerate(predictor.run(images, [asked] * 3)):
        assert list(answers) == list(asked)
        assert answers["raising"] == Failure("raising", "task raising failed: ZeroDivisionError")
        assert answers["endless"] == Failure("endless", "task endless gives NaN")
        assert answers["broken"] is broken
        prediction = answers["sound"]
        assert isinstance(prediction, ClassPrediction)
        assert prediction.classes[0] == CLASSES[expected[picture]]
    [record] = caplog.records
    assert record.getMessage() == "task raising failed"


def test_nan_for_one_picture_spares_the_others(resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained(resnet)
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, float("nan"), 2.0], [float("-inf"), 1.0, 0.0]])
    monkeypatch.setattr(method, "forward", lambda _features: logits)
    answers = [answer["t"] for answer in Predictor(EagerEngine(resnet)).run(images, [{"t": request(method)}] * 3)]
    assert answers[1] == Failure("t", "task t gives NaN")
    assert [answers[place].top(1)[0][0] for place in (0, 2)] == ["c", "b"]  # ty: ignore[unresolved-attribute]


def test_without_a_request_there_is_no_pass(resnet: Source, images: Tensor) -> None:
    with resnet.cnn.register_forward_pre_hook(lambda _module, _inputs: pytest.fail("the source runs")):
        failure = Failure("t", "damaged")
        assert Predictor(EagerEngine(resnet)).run(images, [{}, {"t": failure}, {}]) == [{}, {"t": failure}, {}]


def test_a_prediction_and_a_failure_have_one_encoding() -> None:
    [prediction] = ClassPrediction.from_logits("t", CLASSES, torch.tensor([[1.0, 3.0, 2.0]]))
    assert prediction.classes == ("b", "c", "a")
    assert sum(prediction.probabilities) == pytest.approx(1)
    best = {"class": "b", "probability": prediction.probabilities[0]}
    assert encode("x.jpg", {"t": prediction, "u": Failure("u", "damaged")}, top_k=1) == {
        "image": "x.jpg",
        "tasks": {"t": {"kind": "class", "classes": [best]}, "u": {"error": "damaged"}},
    }
    assert len(prediction.to_dict()["classes"]) == 3


def test_predictions_are_equal_by_value() -> None:
    first, same, other = ClassPrediction.from_logits("t", CLASSES, torch.tensor([[1.0, 3.0, 2.0]] * 2 + [[3.0, 1, 2]]))
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    assert "classes=('b', 'c', 'a')" in repr(first)


def test_the_source_s_own_head_is_asked_like_a_task(resnet: Source, images: Tensor) -> None:
    names = tuple(map(str, range(resnet.num_classes)))
    answers = Predictor(EagerEngine(resnet)).run(images, [{SOURCE_HEAD: Request(None, ClassKind(tuple(names)))}] * 3)
    expected = resnet(images).logits.argmax(1)
    tops = [answer[SOURCE_HEAD].top(1)[0][0] for answer in answers]  # ty: ignore[unresolved-attribute]
    assert tops == [str(best.item()) for best in expected]


@given(st.lists(st.sets(st.sampled_from("abcd")), max_size=12))
def test_each_picture_is_in_the_runs_of_what_it_wants(wanted: list[set[str]]) -> None:
    order, runs = group_by_task(wanted)
    assert sorted(order) == list(range(len(wanted)))
    assert runs.keys() == set().union(*wanted)
    for name, (start, stop) in runs.items():
        assert {picture for picture, names in enumerate(wanted) if name in names} <= set(order[start:stop])
        assert name in wanted[order[start]]
        assert name in wanted[order[stop - 1]]


def test_pictures_that_want_one_thing_each_are_answered_once() -> None:
    _, runs = group_by_task([{"a"}, {"b"}, {"a"}, {"c"}, {"b"}])
    assert sum(stop - start for start, stop in runs.values()) == 5
