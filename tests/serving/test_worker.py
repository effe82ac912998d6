"""The pass: one of the source, whatever is asked about each picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.inference.prediction import SOURCE_HEAD
from snow.serving.worker import Ranked, Worker


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_a_mixed_batch_takes_one_pass_and_answers_as_the_hub_does(
    hub: Hub, canary: Callable[..., Artifact], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(canary("canary", 2))
    wanted = [("learned",), ("canary", SOURCE_HEAD), ("learned", "canary"), (), ("learned", "gone")]
    expected = hub.logits(images, ["learned", "canary", SOURCE_HEAD])
    passes: list[int] = []
    monkeypatch.setattr(
        hub.source.cnn, "forward", lambda x, inner=hub.source.cnn.forward: (passes.append(len(x)), inner(x))[1]
    )
    answers = Worker(hub).answer(list(images), wanted)
    assert passes == [5]
    assert [set(one) for one in answers] == [set(one) for one in wanted]
    assert "no task 'gone'" in str(answers[4].pop("gone"))
    for row, one in enumerate(answers):
        for name, answer in one.items():
            assert isinstance(answer, Ranked)
            probabilities, order = expected[name][row].softmax(0).sort(descending=True)
            torch.testing.assert_close(answer.probabilities, probabilities, rtol=1e-4, atol=1e-5)
            assert answer.order.tolist() == order.tolist()
            [(best, _)] = answer.top(1)
            assert best == hub.classes(name)[order[0]]
    assert answers[1]["canary"].top(1)[0][0] == "two"


def test_a_task_that_fails_takes_no_other_with_it(
    hub: Hub, canary: Callable[..., Artifact], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sound", "failing", "endless"):
        hub.add(canary(name, 1))

    def fail(*args: Any) -> None:
        raise RuntimeError("secret")

    worker = Worker(hub)
    monkeypatch.setattr(hub.task("failing").method, "forward", fail)
    for value in hub.task("endless").method.parameters():
        value.data.fill_(float("nan"))
    [answers] = worker.answer(list(images[:1]), [("failing", "endless", "sound")])
    assert answers["failing"] == "task failing failed: RuntimeError"
    assert answers["endless"] == "task endless answers with what is no number"
    assert answers["sound"].top(1)[0][0] == "one"


def test_a_device_that_is_not_there_is_one_line(hub: Hub) -> None:
    with pytest.raises(SnowError, match="device warp cannot be used: [^\n]+$"):
        Worker(hub, "warp")
