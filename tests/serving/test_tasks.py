"""What the service tells about its tasks."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import torch

from snow.hub import Artifact, Hub
from snow.serving.facts import TaskFacts
from snow.serving.metrics import MAX_LABELLED, OTHERS, Metrics
from snow.subscribe import SelectionHistory

Wait = Callable[[Any], None]
Canary = Callable[..., Artifact]


def test_tasks_are_listed_and_described(serve: Any, hub: Hub, canary: Canary, wait: Wait) -> None:
    history = [{"epoch": 1, "loss": float("nan"), "accuracy": 0.5, "validation": None}]
    artifact = canary("canary", 1)
    artifact.metrics.update(test={"top1": 0.75}, history=history)
    hub.add(artifact)
    learned = hub.task("learned").method
    masks = torch.zeros(5, 16, dtype=torch.bool)
    masks[:, 3] = masks[4, 9] = True
    SelectionHistory(torch.arange(5), 2, {"layer1": masks}).save(hub.folder("learned") / "choice.safetensors")

    async def work() -> None:
        async with serve() as served:
            body = (await served.client.get("/v1/tasks")).json()
            assert [one["name"] for one in body["tasks"]] == ["canary", "learned"]
            assert body["tasks"][0]["top1"] == 0.75
            assert body["tasks"][1]["parameters"] == learned.learned_parameters
            assert body["broken"] == {}
            assert body["managed"] is True
            assert body["source"]["fingerprint"] == hub.source.fingerprint
            assert [tap["name"] for tap in body["source"]["taps"]] == [tap.name for tap in hub.source.taps]
            one = (await served.client.get("/v1/tasks/canary")).json()
            assert one["labels"] == ["zero", "one", "two"]
            assert one["history"] == [{**history[0], "loss": None}]
            assert (one["subscribed"], one["overlap"]) == ([], [])
            two = (await served.client.get("/v1/tasks/learned")).json()
            assert {entry["tap"]: entry["chosen"] for entry in two["subscribed"]} == {
                tap: mask.nonzero().flatten().tolist() for tap, mask in learned.selected_mask().items()
            }
            choice = (await served.client.get("/v1/tasks/learned/choice")).json()
            assert (choice["steps"], choice["batches"]) == ([0, 1, 2, 3, 4], 2)
            [tap] = choice["taps"]
            assert (tap["channels"], tap["taken"], tap["ever"]) == (16, 2, 2)
            assert base64.b64decode(tap["rows"]) == b"\x10\x00" * 4 + b"\x10\x40"
            for path, code in (
                ("nobody", "unknown_task"),
                ("nobody/choice", "unknown_task"),
                ("canary/choice", "not_found"),
            ):
                response = await served.client.get(f"/v1/tasks/{path}")
                assert (response.status_code, response.json()["error"]["code"]) == (404, code)

    wait(work())


def test_overlap_with_the_others_is_told_the_closest_first(serve: Any, hub: Hub, wait: Wait) -> None:
    hub.copy(hub.folder("learned"), "twin")

    async def work() -> None:
        async with serve() as served:
            [pair] = (await served.client.get("/v1/tasks/learned")).json()["overlap"]
            assert (pair["task"], pair["iou"]) == ("twin", 1.0)
            assert 0 < pair["chance"] < 0.5
            assert set(pair["taps"]) == set(hub.task("learned").method.selected_mask())

    wait(work())


def test_the_list_is_encoded_once_and_sent_when_it_changes(
    serve: Any, hub: Hub, canary: Canary, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(canary("canary", 1))
    counted: list[str] = []
    real = TaskFacts.of.__func__
    monkeypatch.setattr(
        TaskFacts, "of", classmethod(lambda cls, artifact: (counted.append(artifact.name), real(cls, artifact))[1])
    )

    async def work() -> None:
        async with serve() as served:
            first = await served.client.get("/v1/tasks")
            for _ in range(5):
                again = await served.client.get("/v1/tasks", headers={"If-None-Match": first.headers["etag"]})
                assert (again.status_code, again.content) == (304, b"")
            assert counted == ["canary", "learned"]
            Hub(hub.path, hub.source).add(canary("more", 2))
            await served.service.refresh()
            changed = await served.client.get("/v1/tasks", headers={"If-None-Match": first.headers["etag"]})
            assert [task["name"] for task in changed.json()["tasks"]] == ["canary", "learned", "more"]
            assert counted == ["canary", "learned", "more"], "only what is new is described"

    wait(work())


def test_many_tasks_are_counted_together() -> None:
    metrics = Metrics()
    names = [f"t{number:03}" for number in range(MAX_LABELLED + 50)]
    metrics.set_tasks(names, [])
    for name in names:
        metrics.record_task(name, 1, 0, 0.01)
    text = metrics.text().decode()
    assert text.count("snow_task_answers_total{") == MAX_LABELLED + 1
    assert f'snow_task_answers_total{{task="{OTHERS}"}} 50.0' in text
    metrics.set_tasks(names[:-1], [])
    assert 'task="t000"' in metrics.text().decode()
