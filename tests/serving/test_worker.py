"""The pass: one of the source, whatever is asked about each picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.inference import SOURCE_HEAD, ClassPrediction, Failure
from snow.serving import service
from snow.serving.worker import Worker


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_a_mixed_batch_takes_one_pass_and_answers_as_the_hub_does(
    hub: Hub, canary: Callable[..., Artifact], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(canary("canary", 2))
    hub = Hub(hub.path, hub.source, engine="eager")  # it runs the source's own network
    wanted = [("learned",), ("canary", SOURCE_HEAD), ("learned", "canary"), (), ("learned", "gone")]
    expected = hub.logits(images, ["learned", "canary", SOURCE_HEAD])
    passes: list[int] = []
    monkeypatch.setattr(
        hub.source.cnn, "forward", lambda x, inner=hub.source.cnn.forward: (passes.append(len(x)), inner(x))[1]
    )
    answers = Worker(hub).predict(list(images), wanted)
    assert passes == [5]
    assert [set(one) for one in answers] == [set(one) for one in wanted]
    gone = answers[4].pop("gone")
    assert isinstance(gone, Failure)
    assert "no task 'gone'" in gone.error
    for row, one in enumerate(answers):
        for name, answer in one.items():
            assert isinstance(answer, ClassPrediction)
            probabilities, order = expected[name][row].softmax(0).sort(descending=True)
            assert answer.probabilities == pytest.approx(probabilities.tolist(), rel=1e-4, abs=1e-5)
            assert answer.classes == tuple(hub.classes(name)[index] for index in order)
    assert [label for label, _ in answers[1]["canary"].top(1)] == ["two"]


def test_a_device_that_is_not_there_is_one_line(hub: Hub) -> None:
    with pytest.raises(SnowError, match="device warp cannot be used: [^\n]+$"):
        Worker(hub, "warp")


def test_a_service_with_many_tasks_is_ready_before_all_are_prepared(
    serve: Any,
    hub: Hub,
    canary: Callable[..., Artifact],
    jpeg: Callable[..., bytes],
    wait: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b", "c"):
        hub.add(canary(name, 1))
    monkeypatch.setattr(service, "WARM_AT_ONCE", 2)
    prepared: list[Sequence[str]] = []
    warm_up = Worker.warm_up
    monkeypatch.setattr(Worker, "warm_up", lambda worker, names: (prepared.append(names), warm_up(worker, names))[1])

    async def work() -> None:
        async with serve() as served:
            assert prepared == [["a", "b"]]
            assert (await served.predict(jpeg(), tasks="c,learned")).status_code == 200
            while len(prepared) < 2:
                await asyncio.sleep(0.01)
            assert prepared == [["a", "b"], ["c", "learned"]]

    wait(work())
