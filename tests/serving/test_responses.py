"""What a response lists is bounded, and a large one is encoded beside the event loop."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from snow.hub import Artifact, Hub
from snow.inference import ClassPrediction, Failure, encode
from snow.serving import responses
from snow.serving.errors import RefusedError
from snow.serving.requests import Picture, PredictRequest
from snow.serving.responses import MAX_CLASSES, MAX_ON_LOOP, PredictResult, encode_response, require_bounded

Wait = Callable[[Any], None]


def asked(pictures: int, top_k: int = 5) -> PredictRequest:
    return PredictRequest((Picture(b"x", 'a "\udc80'),) * pictures, (), top_k)


def test_json_made_in_steps_is_that_of_every_interface() -> None:
    names = ("zero", 'o"ne')
    [prediction] = ClassPrediction.from_logits("t", names, torch.tensor([[0.25, 1.5]]))
    predictions = {"t": prediction, "gone": Failure("gone", "it\nfailed")}
    content = encode_response(asked(2), PredictResult([predictions] * 2, 0.25, 0.5, 1.0, 7), 2.0)
    entry = encode('a "\udc80', predictions, 5)
    timing = {"total": 2000.0, "decode": 250.0, "queue": 500.0, "engine": 1000.0, "batch": 7}
    assert json.loads(content) == {"results": [entry, entry], "timing": timing}
    assert b" " not in content.replace(b'a \\"', b"").replace(b"it\\nfailed", b"")


@pytest.mark.parametrize(
    ("pictures", "classes", "top_k", "is_allowed"),
    [
        (64, [1000] * 7, 1000, True),
        (64, [1000] * 8, 1000, False),
        (64, [1000] * 300, 5, True),
        (64, [3] * 300, 1000, True),
        (1, [1000] * 501, 1000, False),
    ],
)
def test_the_classes_of_a_response_are_bounded(
    pictures: int, classes: Sequence[int], top_k: int, is_allowed: bool
) -> None:
    if is_allowed:
        require_bounded(asked(pictures, top_k), classes)
        return
    with pytest.raises(RefusedError, match=f"more than the {MAX_CLASSES:,}") as refused:
        require_bounded(asked(pictures, top_k), classes)
    assert refused.value.status == 422


def test_a_large_response_is_made_in_a_thread_and_a_small_one_is_not(
    serve: Any,
    hub: Hub,
    canary: Callable[..., Artifact],
    jpeg: Callable[..., bytes],
    wait: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(canary("wide", 1, tuple(f"class {number}" for number in range(MAX_ON_LOOP + 1))))
    threads: list[bool] = []
    real = responses.encode

    def noted(*arguments: Any) -> dict[str, Any]:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(*arguments)

    monkeypatch.setattr(responses, "encode", noted)

    async def work() -> None:
        async with serve() as served:
            for top_k in (2, MAX_ON_LOOP + 1):
                response = await served.predict(jpeg(), tasks="wide", top_k=top_k)
                assert response.status_code == 200
                assert len(response.json()["results"][0]["tasks"]["wide"]["classes"]) == top_k
            monkeypatch.setattr(responses, "MAX_CLASSES", MAX_ON_LOOP)
            refused = await served.predict(jpeg(), tasks="wide", top_k=MAX_ON_LOOP + 1)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid")

    wait(work())
    assert threads == [True, False]
